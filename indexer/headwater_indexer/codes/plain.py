"""Rows as they are, in float32, behind the same door as rows of few bits."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

Rows = Float32[np.ndarray, "rows width"]


class PlainRows:
    """Scores rows that are read from their files."""

    def __init__(self, width: int) -> None:
        self.bytes = 4 * width

    def scorer(self, queries: Rows) -> Callable[[Rows], Float32[np.ndarray, "queries rows"]]:
        """<q, v> for all queries and the rows that it is given."""
        return lambda rows: np.asarray(queries @ rows.T, dtype=np.float32)
