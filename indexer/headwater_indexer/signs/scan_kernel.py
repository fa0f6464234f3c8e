"""The pass over the signs, compiled by numba: one read of the words for all queries, and the best of each are kept.

FAISS's IndexRaBitQ scans such codes for one query at a time. This pass takes many together at a fraction of that,
ranks by influence as well as by relatif from the same codes, and leaves out what is not asked for.
"""

from typing import Any

import numpy as np

from headwater_indexer.compiling import compiled
from headwater_indexer.signs.coder import LINE_WORDS
from headwater_indexer.signs.counting_kernel import of_eight, of_one

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

    words    uint64 [rows, words]           of the rows numbered from `first`, in whole lines of LINE_WORDS,
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
    chunks, row_bytes = words.shape[1] // LINE_WORDS, words.shape[1] * WORD_BYTES
    base, plane = words.ctypes.data, planes.ctypes.data
    rows, found = np.empty(8, np.int64), np.empty(8, np.int64)
    one, lower = np.empty(1, np.int64), np.empty(1, np.int64)
    places, counted, place_of_one, counted_of_one = rows.ctypes, found.ctypes, one.ctypes, lower.ctypes
    for i in range(0, last + 1, 8):  # eight rows meet a plane of a query while it is in the registers
        for place in range(8):
            rows[place] = base + min(i + place, last) * every * row_bytes
        for q in range(len(planes)):
            low = plane + 2 * q * row_bytes
            of_eight(counted.data, low + row_bytes, places.data, chunks)
            step, allow, top, fall, bound = steps[q], allowed[q], likely[q], slope[q], least[q]
            for place in range(min(8, last + 1 - i)):
                row = (i + place) * every
                count = np.float32(found[place])
                scale, extra = step * scales[row], allow * errors[row]
                if (top - fall * count) * scale + extra > bound:  # as NaN is not
                    one[0] = rows[place]
                    of_one(counted_of_one.data, low, place_of_one.data, chunks)
                    score = (np.float32(middle) - 2 * count - np.float32(lower[0])) * scale + extra
                    if score > bound:
                        scores[q, counts[q]], ordinals[q, counts[q]] = score, first + row
                        counts[q] += 1
                        if counts[q] == most:
                            bound = least[q] = _best_first(scores[q], ordinals[q], most // 2)
                            counts[q] = most // 2


scan = compiled(_scan, fast=False)  # NaN is no more than anything, which leaves rows out
