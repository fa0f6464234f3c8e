"""A query in few bits, so that its products with signs are counts of bits.

    q_j is about step (k_j - (2^B - 1) / 2),  k_j in 0 .. 2^B - 1, in B planes of bits
    sum_j q_j s_j = step (columns (2^B - 1) / 2 - sum_b 2^b popcount(signs ^ plane_b))

because k_j - (2^B - 1) / 2 = sum_b 2^b t_jb / 2 with t = +1 and -1 by the bits of k_j, and s_j t_jb = -1 where two bits
differ. (A sign is 1 for what is below 0, so that planes are stored inverted.)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from headwater_indexer.signs.coder import SignCoder, in_lines, pack
from headwater_indexer.signs.folding import fold

# As the kernel and `_rounded` take. They add a tenth to the error of the signs, and a third bit would take most of it.
QUERY_BITS = 2
DEVIATIONS_BELOW = 3.0  # of a low plane's count, that a row is given the benefit of before it is counted
_STEPS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)  # over the root mean square; 0.996 is a Gaussian's best


@dataclass(frozen=True)
class QueryPlanes:
    """Queries as the kernel wants them."""

    planes: UInt64[np.ndarray, "queries bits words"]  # folded: see `folding`
    steps: Float32[np.ndarray, " queries"]
    lengths: Float32[np.ndarray, " queries"]  # of the whole queries
    middle: float  # of the weighted counts: a product of 0
    most: Float32[np.ndarray, " queries"]  # of a product, from which `slope` is taken for each bit of the high count
    slope: Float32[np.ndarray, " queries"]


def query_planes(coder: SignCoder, queries: Float32[np.ndarray, "queries width"]) -> QueryPlanes:
    """Each query rounded with the step that points best in its direction."""
    planes = in_lines(len(queries), QUERY_BITS, coder.words_in_memory)
    steps = np.empty(len(queries), dtype=np.float32)
    for number, query in enumerate(coder.pick(queries)):
        levels, steps[number] = _rounded(query)
        below = (levels[None, :] >> np.arange(QUERY_BITS)[:, None]) & 1 == 0
        planes[number, :, : coder.words] = pack(below)
    lengths = np.linalg.norm(queries, axis=1).astype(np.float32)
    middle = len(coder.columns) * (2**QUERY_BITS - 1) / 2
    most, slope = _by_high_planes(planes, middle, len(coder.columns))
    fold(planes)
    return QueryPlanes(planes, steps, lengths, middle, most, slope)


def _by_high_planes(
    planes: UInt64[np.ndarray, "queries bits words"], middle: float, columns: int
) -> tuple[Float32[np.ndarray, " queries"], Float32[np.ndarray, " queries"]]:
    """What a product hardly exceeds, by the count of the high plane alone: `most` - `slope` count.

    Of a row that has nothing to do with the query both counts are sums of coin tosses, columns / 2 on average with a
    variance of columns / 4, and correlated as the planes are, so that the one foretells the other. (Of a row that has,
    the high plane tells nine tenths.)
    """
    alike = 1 - 2 * np.bitwise_count(planes[:, 0] ^ planes[:, 1]).sum(1, dtype=np.int64) / columns
    spread = np.sqrt(columns * (1 - alike**2)) / 2
    most = middle - columns / 2 * (1 - alike) + DEVIATIONS_BELOW * spread
    return most.astype(np.float32), (2 + alike).astype(np.float32)


def _rounded(query: Float32[np.ndarray, " columns"]) -> tuple[Int64[np.ndarray, " columns"], float]:
    """Levels from 0 to 3, which stand for -3/2 to 3/2, and the step: <q, q> / <q, levels>, which makes the product with
    itself exact."""
    scale = float(np.sqrt(np.mean(np.square(query), dtype=np.float64)))
    if scale == 0:
        return np.zeros(len(query), dtype=np.int64), 0.0
    sizes = np.abs(query)
    halves = float(sizes.sum()) / 2
    best = (-1.0, np.zeros(0, dtype=bool), 0.0)
    for step in _STEPS:
        outer = sizes >= np.float32(step * scale)
        along = halves + float(sizes @ outer.astype(np.float32))
        square = len(query) / 4 + 2 * int(np.count_nonzero(outer))
        best = max(best, (along / square**0.5, outer, along), key=lambda found: found[0])
    _, outer, along = best
    return np.where(query < 0, 1 - outer, 2 + outer), float(query @ query) / along
