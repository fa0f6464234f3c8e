"""Codes of a level a column, by kernels of numba's: decoded, or met by one query and never held as a whole."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8

from headwater_indexer.codes.cores import shared_by_cores


def decode(
    levels_of_byte: Float32[np.ndarray, "256 in_byte"], codes: UInt8[np.ndarray, "rows bytes"]
) -> Float32[np.ndarray, "rows places"]:
    """The levels that each row's bytes name, one behind the other."""
    from headwater_indexer.codes.walk_kernel import decode as by_bytes

    kind = np.dtype(f"u{levels_of_byte.itemsize * levels_of_byte.shape[1]}")  # all levels of a byte are copied as one
    found = np.empty((len(codes), codes.shape[1] * levels_of_byte.shape[1]), dtype=np.float32)
    shared_by_cores(partial(by_bytes, levels_of_byte.view(kind)[:, 0]), codes, found.view(kind))
    return found


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
