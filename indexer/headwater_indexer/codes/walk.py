"""A few records scored for one query, step by step, compiled by numba: no table is made and nothing is decoded.

A pass over all records prepares tables of the query's products with all words, or decodes block by block for many
queries. For a thousand candidates of one query either costs more than the scores do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from headwater_indexer.signs.kernel import import_numba


@dataclass(frozen=True)
class Walk:
    """Codes as steps of some bits, each of which with the bits before it names a word, and one query in such steps."""

    step_bits: int  # 4 or 8
    word_bits: int
    book: Float32[np.ndarray, "words longest"]
    query: Float32[np.ndarray, "steps longest"]

    def __call__(self, codes: UInt8[np.ndarray, "rows bytes"]) -> Float32[np.ndarray, " rows"]:
        """<q, s> for each row."""
        found = np.empty(len(codes), dtype=np.float32)
        _kernel()(codes, self.step_bits, (1 << self.word_bits) - 1, self.book, self.query, found)
        return found


@cache
def has_numba() -> bool:
    """Whether a walk can be compiled."""
    return find_spec("numba") is not None


@cache
def _kernel() -> Callable[..., None]:
    """It holds no lock of the interpreter, and is compiled at the first call of a process."""
    compiled = import_numba().njit(nogil=True, error_model="numpy", fastmath=True)

    def walk(codes: Any, step_bits: int, mask: int, book: Any, query: Any, found: Any) -> None:
        steps, low = 8 // step_bits, (1 << step_bits) - 1
        for row in range(len(codes)):
            word, total = np.int64(0), np.float32(0)
            for place in range(codes.shape[1]):
                byte = np.int64(codes[row, place])
                for part in range(steps):
                    step = place * steps + part
                    word = ((word << step_bits) | ((byte >> (8 - step_bits * (part + 1))) & low)) & mask
                    if step < len(query):
                        for column in range(book.shape[1]):
                            total += book[word, column] * query[step, column]
            found[row] = total

    kernel: Callable[..., None] = compiled(walk)
    return kernel
