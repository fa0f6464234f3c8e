"""Rows of codes shared between the cores."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from jaxtyping import Float32, UInt8

_SHARED = 256  # rows, from which cores share them


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
