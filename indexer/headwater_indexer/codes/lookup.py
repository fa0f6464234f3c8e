"""Trellis codes scored by a kernel of numba's: two numbers a step, out of tables of one query's products."""

from functools import partial

import numpy as np
from jaxtyping import Float32, UInt8

from headwater_indexer.codes.cores import shared_by_cores

Codes = UInt8[np.ndarray, "rows bytes"]
Table = Float32[np.ndarray, "steps halves"]


def look_up(first: Table, second: Table, codes: Codes) -> Float32[np.ndarray, " rows"]:
    """<q, s> for each row, by the products of one query with the first and the second halves of each step's words."""
    from headwater_indexer.codes.lookup_kernel import one

    found = np.zeros(len(codes), dtype=np.float32)
    shared_by_cores(partial(one, first, second), codes, found)
    return found
