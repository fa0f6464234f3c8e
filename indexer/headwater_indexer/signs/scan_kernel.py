"""The pass over the signs, compiled by numba: one read of the words for all queries, and the best of each are kept.

FAISS's IndexRaBitQ scans such codes for one query at a time. This pass takes many together at a fraction of that,
ranks by influence as well as by relatif from the same codes, and leaves out what is not asked for.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from headwater_indexer.compiling import compiled


@intrinsic
def popcount(_: Any, word: Any) -> Any:  # noqa: ARG001
    """How many bits of a 64-bit word are set, as one instruction where the processor has it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), code


_set_bits: Any = popcount  # whose first argument is numba's own


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


def _count_differing(one: Any, other: Any) -> Any:
    """Bits of two rows of words."""
    found = np.uint64(0)
    for j in range(len(one)):
        found += _set_bits(one[j] ^ other[j])
    return np.float32(found)


_differing = compiled(_count_differing, fast=False)


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

    words    uint64 [rows, words]           of the rows numbered from `first`; one in `every` is looked at
    scales   float32 [rows]                 what a row's product is multiplied by; NaN for a row that is left out
    errors   float32 [rows]                 how wrong a row's score may be; a query's `allowed` of it is added
    planes   uint64 [queries, 2, words], steps float32 [queries], middle: see `signs.query`
    likely, slope float32 [queries]         what a product hardly exceeds is likely - slope x the high plane's count; a
                                            row that is not among the best so is not looked at further
    least    float32 [queries]              the score that a row must exceed; raised on the way
    scores   float32 [queries, 2 c], ordinals int64 [queries, 2 c], counts int64 [queries]
    """
    last, most = (len(words) - 1) // every, scores.shape[1]
    highs = np.empty(8, np.float32)
    for i in range(0, last + 1, 8):  # eight rows meet a plane of a query while it is in the registers
        a, b = words[i * every], words[min(i + 1, last) * every]
        c, d = words[min(i + 2, last) * every], words[min(i + 3, last) * every]
        e, f = words[min(i + 4, last) * every], words[min(i + 5, last) * every]
        g, h = words[min(i + 6, last) * every], words[min(i + 7, last) * every]
        for q in range(len(planes)):
            low, high = planes[q, 0], planes[q, 1]
            of_a = of_b = of_c = of_d = of_e = of_f = of_g = of_h = np.uint64(0)
            for j in range(words.shape[1]):
                x = high[j]
                of_a += _set_bits(a[j] ^ x)
                of_b += _set_bits(b[j] ^ x)
                of_c += _set_bits(c[j] ^ x)
                of_d += _set_bits(d[j] ^ x)
                of_e += _set_bits(e[j] ^ x)
                of_f += _set_bits(f[j] ^ x)
                of_g += _set_bits(g[j] ^ x)
                of_h += _set_bits(h[j] ^ x)
            highs[0], highs[1], highs[2], highs[3] = of_a, of_b, of_c, of_d
            highs[4], highs[5], highs[6], highs[7] = of_e, of_f, of_g, of_h
            for place in range(min(8, last + 1 - i)):
                row = (i + place) * every
                scale, extra = steps[q] * scales[row], allowed[q] * errors[row]
                if (likely[q] - slope[q] * highs[place]) * scale + extra > least[q]:  # as NaN is not
                    score = (np.float32(middle) - 2 * highs[place] - _differing(words[row], low)) * scale + extra
                    if score > least[q]:
                        scores[q, counts[q]], ordinals[q, counts[q]] = score, first + row
                        counts[q] += 1
                        if counts[q] == most:
                            least[q] = _best_first(scores[q], ordinals[q], most // 2)
                            counts[q] = most // 2


scan = compiled(_scan, fast=False)  # NaN is no more than anything, which leaves rows out
