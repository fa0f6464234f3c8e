"""What a kind of codes does for a coder."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

# From the codes of some rows, without their headers, to <q, s> for each query; and the same for one query.
Scorer = Callable[[UInt8[np.ndarray, "rows code_bytes"]], Float[Tensor, "rows queries"]]
RowScorer = Callable[[UInt8[np.ndarray, "rows code_bytes"]], Float32[np.ndarray, " rows"]]


class Codes(Protocol):
    """How the columns of a row become bytes."""

    @property
    def bytes(self) -> int:
        """Of a row, without its header."""

    def encode(self, rows: Float[Tensor, "rows width"]) -> tuple[Tensor, Float64[Tensor, " rows"]]:
        """For rows v of root mean square 1: the codes, uint8 [rows, bytes], and <s, v> with the s they stand for."""

    def scorer(self, queries: Float[Tensor, "queries width"]) -> Scorer: ...

    def quick_scorer(self, query: Float[Tensor, " width"]) -> RowScorer | None:
        """The same for one query, compiled by numba; None where a product of matrices is as quick."""

    def decode(self, codes: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows width"]:
        """What the codes of some rows stand for."""

    def tensors(self) -> dict[str, Tensor]:
        """What must be kept to read the codes again."""
