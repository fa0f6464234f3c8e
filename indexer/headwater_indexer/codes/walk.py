"""A few records scored for one query, step by step, compiled by numba: no table is made and nothing is decoded.

A pass over all records prepares tables of the query's products with all words, or decodes block by block for many
queries. For a thousand candidates of one query either costs more than the scores do.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from headwater_indexer.signs.kernel import import_numba

_NARROW = 2  # columns
_SHARED = 256  # rows, from which cores share them


@dataclass(frozen=True)
class Walk:
    """Codes as steps of some bits, each of which with the bits before it names a word, and one query in such steps."""

    step_bits: int  # 4 or 8
    word_bits: int
    book: Float32[np.ndarray, "words longest"]
    query: Float32[np.ndarray, "steps longest"]

    def __call__(self, codes: UInt8[np.ndarray, "rows bytes"]) -> Float32[np.ndarray, " rows"]:
        """<q, s> for each row."""
        if len(codes) < _SHARED:
            return self._part(codes)
        return np.concatenate(list(_pool().map(self._part, np.array_split(codes, torch.get_num_threads()))))

    def _part(self, codes: UInt8[np.ndarray, "rows bytes"]) -> Float32[np.ndarray, " rows"]:
        found = np.empty(len(codes), dtype=np.float32)
        _kernel()(codes, self.step_bits, (1 << self.word_bits) - 1, self.book, self.query, found)
        return found

    @property
    def narrow(self) -> bool:
        """Whether it is quicker than tables for any number of rows: a step is of few columns."""
        return len(self.book[0]) <= _NARROW


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="headwater-walk")


@cache
def has_numba() -> bool:
    """Whether a walk can be compiled."""
    return find_spec("numba") is not None


@cache
def _kernel() -> Callable[..., None]:
    """It holds no lock of the interpreter, and is compiled at the first call of a process."""
    compiled = import_numba().njit(nogil=True, error_model="numpy", fastmath=True)

    def walk(codes: Any, step_bits: int, mask: int, book: Any, query: Any, found: Any) -> None:
        low, last = (1 << step_bits) - 1, len(codes) - 1
        for row in range(0, len(codes), 4):  # four at once: each waits for its own sum alone
            a, b, c, d = codes[row], codes[min(row + 1, last)], codes[min(row + 2, last)], codes[min(row + 3, last)]
            in_a = in_b = in_c = in_d = np.int64(0)
            of_a = of_b = of_c = of_d = np.float32(0)
            place, shift = 0, 8
            for step in range(len(query)):
                if shift == 0:
                    place, shift = place + 1, 8
                shift -= step_bits
                in_a = ((in_a << step_bits) | ((np.int64(a[place]) >> shift) & low)) & mask
                in_b = ((in_b << step_bits) | ((np.int64(b[place]) >> shift) & low)) & mask
                in_c = ((in_c << step_bits) | ((np.int64(c[place]) >> shift) & low)) & mask
                in_d = ((in_d << step_bits) | ((np.int64(d[place]) >> shift) & low)) & mask
                if book.shape[1] == 2:  # told apart, or the compiler makes a slow loop of it
                    one, two = query[step, 0], query[step, 1]
                    of_a += book[in_a, 0] * one + book[in_a, 1] * two
                    of_b += book[in_b, 0] * one + book[in_b, 1] * two
                    of_c += book[in_c, 0] * one + book[in_c, 1] * two
                    of_d += book[in_d, 0] * one + book[in_d, 1] * two
                else:
                    for column in range(book.shape[1]):
                        part = query[step, column]
                        of_a += book[in_a, column] * part
                        of_b += book[in_b, column] * part
                        of_c += book[in_c, column] * part
                        of_d += book[in_d, column] * part
            found[row], found[min(row + 1, last)] = of_a, of_b
            found[min(row + 2, last)], found[min(row + 3, last)] = of_c, of_d

    kernel: Callable[..., None] = compiled(walk)
    return kernel
