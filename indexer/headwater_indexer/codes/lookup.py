"""Trellis codes scored by kernels of numba's: two numbers a step, out of tables of the queries' products."""

from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8

from headwater_indexer.codes.compiling import shared_by_cores
from headwater_indexer.codes.words import HALVES

_CACHE_BYTES = 1 << 19  # of tables, that stay in a core's cache while all rows pass
_TABLE_NUMBERS = 2 * 2 * HALVES  # of a byte's two steps, for one query

Codes = UInt8[np.ndarray, "rows bytes"]


def look_up(tables: Float32[np.ndarray, "steps 2 halves"], codes: Codes) -> Float32[np.ndarray, " rows"]:
    """<q, s> for each row, by the products of one query with both halves of the words of each step."""
    return shared_by_cores(partial(_part, tables), codes)


def _part(tables: Float32[np.ndarray, "steps 2 halves"], codes: Codes) -> Float32[np.ndarray, " rows"]:
    from headwater_indexer.codes.lookup_kernel import one

    found = np.zeros(len(codes), dtype=np.float32)
    one(codes, tables, found)
    return found


def look_up_many(
    tables: Float32[np.ndarray, "steps 2 halves queries"], codes: Codes, start: int
) -> Float32[np.ndarray, "rows queries"]:
    """The part of <q, s> that the steps from byte `start` on give, as many as there are tables."""
    return shared_by_cores(partial(_part_of_many, tables, start), codes)


def _part_of_many(
    tables: Float32[np.ndarray, "steps 2 halves queries"], start: int, codes: Codes
) -> Float32[np.ndarray, "rows queries"]:
    from headwater_indexer.codes.lookup_kernel import many

    found = np.zeros((len(codes), tables.shape[3]), dtype=np.float32)
    at_once = max(1, _CACHE_BYTES // (4 * _TABLE_NUMBERS * tables.shape[3]))
    for first in range(0, len(tables) // 2, at_once):
        many(codes, start + first, tables[2 * first : 2 * (first + at_once)], found)
    return found
