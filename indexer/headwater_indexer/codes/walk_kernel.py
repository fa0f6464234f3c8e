"""Codes of a level a column, met by one query level by level."""

from typing import Any

import numpy as np

from headwater_indexer.compiling import compiled


def _walk(bits: int, levels: Any, query: Any, codes: Any, found: Any) -> None:
    """Fills `found` [rows]: levels float32 [2 ** bits], query float32 [columns], codes uint8 [rows, bytes]."""
    low, last = (1 << bits) - 1, len(codes) - 1
    for row in range(0, len(codes), 4):  # four at once: each waits for its own sum alone
        a, b, c, d = codes[row], codes[min(row + 1, last)], codes[min(row + 2, last)], codes[min(row + 3, last)]
        of_a = of_b = of_c = of_d = np.float32(0)
        place, shift = 0, 8
        for column in range(len(query)):
            if shift == 0:
                place, shift = place + 1, 8
            shift -= bits
            part = query[column]
            of_a += levels[(np.int64(a[place]) >> shift) & low] * part
            of_b += levels[(np.int64(b[place]) >> shift) & low] * part
            of_c += levels[(np.int64(c[place]) >> shift) & low] * part
            of_d += levels[(np.int64(d[place]) >> shift) & low] * part
        found[row], found[min(row + 1, last)] = of_a, of_b
        found[min(row + 2, last)], found[min(row + 3, last)] = of_c, of_d


walk = compiled(_walk)
