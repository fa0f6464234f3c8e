"""Records of a level a column scored for one query, level by level, compiled by numba: nothing is decoded."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8

from headwater_indexer.codes.cores import shared_by_cores


@dataclass(frozen=True)
class Walk:
    """Codes of 4 or 8 bits, each of which names the level of a column, and one query."""

    bits: int
    levels: Float32[np.ndarray, " levels"]
    query: Float32[np.ndarray, " columns"]

    def __call__(self, codes: UInt8[np.ndarray, "rows bytes"]) -> Float32[np.ndarray, " rows"]:
        """<q, s> for each row."""
        from headwater_indexer.codes.walk_kernel import walk

        found = np.empty(len(codes), dtype=np.float32)
        shared_by_cores(partial(walk, self.bits, self.levels, self.query), codes, found)
        return found
