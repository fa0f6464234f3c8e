"""Words named by the windows of codes: copied one behind the other, or multiplied with a query as they are read."""

from typing import Any

import numpy as np

from headwater_indexer.codes.words import WINDOWS
from headwater_indexer.compiling import compiled

_MASK = np.uint32(WINDOWS - 1)
_HALF_BYTE, _BYTE = np.uint32(4), np.uint32(8)


def _decode(words: Any, codes: Any, found: Any) -> None:
    """Writes the words of each row's steps: uint64 [windows, pairs] to [rows, steps x pairs], two columns in each."""
    pairs = words.shape[1]
    for row in range(len(codes)):
        window, place = np.uint32(0), 0
        for byte in range(codes.shape[1]):
            window = (window << _BYTE) | np.uint32(codes[row, byte])
            one, two = (window >> _HALF_BYTE) & _MASK, window & _MASK
            for pair in range(pairs):
                found[row, place + pair], found[row, place + pairs + pair] = words[one, pair], words[two, pair]
            place += 2 * pairs


def _multiply(words: Any, query: Any, codes: Any, found: Any) -> None:
    """Writes the product of a query, float32 [steps, columns], with each row: words float32 [windows, columns]."""
    length, columns = codes.shape[1], words.shape[1]
    for row in range(len(codes)):
        window = np.uint32(0)
        a = b = c = d = np.float32(0)  # sums that do not wait for one another
        if columns == 2:  # without a loop in the loop: twice as quick
            for byte in range(length):
                window = (window << _BYTE) | np.uint32(codes[row, byte])
                one, two, step = (window >> _HALF_BYTE) & _MASK, window & _MASK, 2 * byte
                a += words[one, 0] * query[step, 0]
                b += words[one, 1] * query[step, 1]
                c += words[two, 0] * query[step + 1, 0]
                d += words[two, 1] * query[step + 1, 1]
        else:
            for byte in range(length):
                window = (window << _BYTE) | np.uint32(codes[row, byte])
                one, two, step = (window >> _HALF_BYTE) & _MASK, window & _MASK, 2 * byte
                for column in range(0, columns, 2):
                    a += words[one, column] * query[step, column]
                    b += words[one, column + 1] * query[step, column + 1]
                    c += words[two, column] * query[step + 1, column]
                    d += words[two, column + 1] * query[step + 1, column + 1]
        found[row] = a + b + c + d


decode, multiply = compiled(_decode), compiled(_multiply)
