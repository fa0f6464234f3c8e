"""Sums of two numbers a step, out of tables of a query's products with both halves of each step's words."""

from typing import Any

import numpy as np

from headwater_indexer.codes.words import BYTES_BEFORE, POSITIVE, WINDOWS, first_half, second_half
from headwater_indexer.compiling import compiled

_AT_ONCE = 8  # bytes of every row before the next ones: their tables stay in a core's nearest cache
_MASK = np.uint32(WINDOWS - 1)
_HALF_BYTE, _BYTE = np.uint32(4), np.uint32(8)

_first, _second = compiled(first_half), compiled(second_half)


def _before(codes: Any, start: int) -> Any:
    """The bytes before this one that windows begin with."""
    window = np.uint32(0)
    for byte in range(max(0, start - BYTES_BEFORE), start):
        window = (window << _BYTE) | np.uint32(codes[byte])
    return window


def _product(first: Any, second: Any, window: Any) -> Any:
    both = first[_first(window)] + second[_second(window)]
    return both if window < POSITIVE else -both


_product_of, _bytes_before = compiled(_product), compiled(_before)


def _one(first: Any, second: Any, codes: Any, found: Any) -> None:
    """Adds to `found` [rows] for one query: tables float32 [steps, 512], codes uint8 [rows, bytes]."""
    length = codes.shape[1]
    for start in range(0, length, _AT_ONCE):
        for row in range(len(codes)):
            window, total = _bytes_before(codes[row], start), np.float32(0)
            for byte in range(start, min(start + _AT_ONCE, length)):
                window = (window << _BYTE) | np.uint32(codes[row, byte])
                total += _product_of(first[2 * byte], second[2 * byte], (window >> _HALF_BYTE) & _MASK)
                total += _product_of(first[2 * byte + 1], second[2 * byte + 1], window & _MASK)
            found[row] += total


one = compiled(_one)
