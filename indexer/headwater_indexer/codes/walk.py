"""Records of a level a column scored for one query, level by level, compiled by numba: nothing is decoded."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8

from headwater_indexer.codes.cores import shared_by_cores


@dataclass(frozen=True)
class Walk:
    """Codes that name the level of a column each, one or two in a byte, and one query."""

    levels: Float32[np.ndarray, " levels"]
    query: Float32[np.ndarray, "bytes in_byte"]  # the higher half of a byte first

    def __call__(self, codes: UInt8[np.ndarray, "rows bytes"]) -> Float32[np.ndarray, " rows"]:
        """<q, s> for each row."""
        from headwater_indexer.codes.walk_kernel import by_bytes, by_halves

        found = np.empty(len(codes), dtype=np.float32)
        columns = [np.ascontiguousarray(part) for part in self.query.T]
        kernel = by_bytes if len(columns) == 1 else by_halves
        shared_by_cores(partial(kernel, self.levels, *columns), codes, found)
        return found
