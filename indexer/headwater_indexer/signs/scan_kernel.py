"""The pass over the signs, compiled by numba: one read of the words for all queries, and the best of each are kept.

FAISS's IndexRaBitQ scans such codes for one query at a time. This pass takes many together at a fraction of that,
ranks by influence as well as by relatif from the same codes, and leaves out what is not asked for.
"""

from typing import Any

import numpy as np

from headwater_indexer.compiling import compiled
from headwater_indexer.signs.coder import LINE_WORDS
from headwater_indexer.signs.counting_kernel import EIGHT, above_of_eight, of_one

WORD_BYTES = 8


def _highest(scores: Any, kept: int) -> Any:
    """The least of the `kept` highest, by Hoare's selection. (NumPy's takes numba ten seconds to compile.)"""
    left, low, high = scores.copy(), 0, len(scores) - 1
    place = len(scores) - kept
    while low < high:
        pivot, i, j = left[place], low, high
        while i <= j:
            while left[i] < pivot:
                i += 1
            while pivot < left[j]:
                j -= 1
            if i <= j:
                left[i], left[j] = left[j], left[i]
                i, j = i + 1, j - 1
        low, high = (i if j < place else low), (j if place < i else high)
    return left[place]


_least_of = compiled(_highest, fast=False)


def _keep_best(scores: Any, ordinals: Any, kept: int) -> Any:
    """Moves the `kept` highest to the front; returns the least of them."""
    least, above, place = _least_of(scores, kept), 0, 0
    for i in range(len(scores)):
        above += scores[i] > least
    for i in range(len(scores)):
        equal = scores[i] == least and above < kept  # for those as high as the least there may be room
        if scores[i] > least or equal:
            scores[place], ordinals[place] = scores[i], ordinals[i]
            place, above = place + 1, above + equal
    return least


_best_first = compiled(_keep_best, fast=False)


def _scan(
    words: Any,
    scales: Any,
    errors: Any,
    first: int,
    every: int,
    planes: Any,
    steps: Any,
    allowed: Any,
    middle: float,
    likely: Any,
    slope: Any,
    least: Any,
    scores: Any,
    ordinals: Any,
    counts: Any,
) -> None:
    """Fills the scores, of which the c best rows of query q are among the first counts[q].

    words    uint64 [rows, words]           of the rows numbered from `first`, in whole lines, folded,
                                            one row after the other; one in `every` is looked at
    scales   float32 [rows]                 what a row's product is multiplied by; NaN for a row that is left out
    errors   float32 [rows]                 how wrong a row's score may be; a query's `allowed` of it is added
    planes   uint64 [queries, 2, words], steps float32 [queries], middle: see `signs.query`
    likely, slope float32 [queries]         what a product hardly exceeds is likely - slope x the high plane's count; a
                                            row that is not among the best so is not looked at further
    least    float32 [queries]              the score that a row must exceed; raised on the way
    scores   float32 [queries, 2 c], ordinals int64 [queries, 2 c], counts int64 [queries]
    """
    last, most = (len(words) - 1) // every, scores.shape[1]
    lines, row_bytes = words.shape[1] // LINE_WORDS, words.shape[1] * WORD_BYTES
    base, plane = words.ctypes.data, planes.ctypes.data
    rows, found = np.empty(EIGHT, np.int64), np.empty(EIGHT, np.int64)
    own_scales, own_errors = np.empty(EIGHT, np.float32), np.zeros(EIGHT, np.float32)
    of_rows, counted, scaled, wrong = rows.ctypes, found.ctypes, own_scales.ctypes, own_errors.ctypes
    for i in range(0, last + 1, EIGHT):  # rows meet a plane of a query while it is in the registers
        for place in range(EIGHT):
            row = min(i + place, last) * every
            rows[place] = base + row * row_bytes
            own_scales[place] = scales[row] if i + place <= last else np.float32(np.nan)
            own_errors[place] = errors[row]
        for q in range(len(planes)):
            low, step, allow, bound = plane + 2 * q * row_bytes, steps[q], allowed[q], least[q]
            above = above_of_eight(
                counted.data,
                low + row_bytes,
                of_rows.data,
                lines,
                scaled.data,
                wrong.data,
                step * likely[q],
                step * slope[q],
                allow,
                bound,
            )
            for place in range(EIGHT if above else 0):
                if above >> place & 1:
                    count = 2 * found[place] + of_one(low, rows[place], lines)
                    product = (np.float32(middle) - np.float32(count)) * step
                    score = product * own_scales[place] + allow * own_errors[place]
                    if score > bound:
                        scores[q, counts[q]], ordinals[q, counts[q]] = score, first + (i + place) * every
                        counts[q] += 1
                        if counts[q] == most:
                            bound = least[q] = _best_first(scores[q], ordinals[q], most // 2)
                            counts[q] = most // 2


scan = compiled(_scan, fast=False)  # NaN is no more than anything, which leaves rows out
