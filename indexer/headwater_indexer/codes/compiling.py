"""What the kernels that numba compiles share: whether there is numba, how they are compiled, and the cores they run on.

Modules named `..._kernel` import numba, and are imported where there is one alone.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

_SHARED = 256  # rows, from which cores share them

RowScorer = Callable[[UInt8[np.ndarray, "rows bytes"]], Float32[np.ndarray, " rows"]]


@cache
def has_numba() -> bool:
    """Whether a kernel can be compiled."""
    return find_spec("numba") is not None


def compiled(function: Any) -> Any:
    """By numba, at the first call; it holds no lock of the interpreter, and may make sums in any order.

    What was compiled is kept for other processes, beside the source or in the user's cache: compiling takes seconds.
    """
    import numba

    njit: Any = numba.njit
    options = {"nogil": True, "error_model": "numpy", "fastmath": True}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # neither folder can be written
        return njit(function, **options)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="headwater-codes")


def shared_by_cores(
    add: Callable[[UInt8[np.ndarray, "rows bytes"], Float32[np.ndarray, "rows *queries"]], None],
    codes: UInt8[np.ndarray, "rows bytes"],
    found: Float32[np.ndarray, "rows *queries"],
) -> None:
    """`add`s to the scores of the rows; it must hold no lock of the interpreter."""
    threads = torch.get_num_threads()
    if threads == 1 or len(codes) < _SHARED:
        add(codes, found)
    else:
        list(_pool().map(add, np.array_split(codes, threads), np.array_split(found, threads)))
