"""Codes of a level a column, decoded, or met by one query as they are read: LLVM takes many columns at once."""

from typing import Any

import numpy as np

from headwater_indexer.compiling import compiled


def _bytes(levels: Any, query: Any, codes: Any, found: Any) -> None:
    """Fills `found` [rows]: levels float32 [256], query float32 [columns], codes uint8 [rows, columns]."""
    for row in range(len(codes)):
        total = np.float32(0)
        for column in range(len(query)):
            total += levels[codes[row, column]] * query[column]
        found[row] = total


def _halves(levels: Any, high: Any, low: Any, codes: Any, found: Any) -> None:
    """As `_bytes`: levels float32 [16], and the query's columns of the `high` and of the `low` half of each byte."""
    for row in range(len(codes)):
        total = np.float32(0)
        for place in range(len(high)):
            code = codes[row, place]
            total += levels[code >> 4] * high[place] + levels[code & 15] * low[place]
        found[row] = total


def _decode(table: Any, codes: Any, found: Any) -> None:
    """Fills `found` [rows, bytes] with what each byte stands for: `table` [256], both of one kind."""
    for row in range(len(codes)):
        for place in range(codes.shape[1]):
            found[row, place] = table[codes[row, place]]


decode = compiled(_decode)
by_bytes, by_halves = compiled(_bytes), compiled(_halves)
