"""Words named by the windows of codes, copied one behind the other."""

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


decode = compiled(_decode)
