"""One step of Viterbi's search for sixteen states at once, in LLVM's vectors.

The states before them are taken by twos, those of opposite words: max(a + p, b - p) = (a + b) / 2 + |p + (a - b) / 2|.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from headwater_indexer.codes.words import CHOICES, MIDDLES, OLDEST
from headwater_indexer.vector_code import FLOAT_BYTES, after, function, in_all, load, store

LINE_BYTES = CHOICES * FLOAT_BYTES
LINES = 16  # by the four lower bits of six in the middle, which name a second half; the two above name a first one
FIRST_BYTES = MIDDLES // LINES * LINE_BYTES  # between first halves whose windows differ by one in their oldest bits
SECOND_BYTES = LINES * LINE_BYTES  # between second halves whose windows differ in the last of these

_NUMBER = ir.FloatType()
_LANES = ir.VectorType(_NUMBER, CHOICES)


@intrinsic
def best_of_lanes(
    _: Any,
    into: Any,
    means: Any,
    aparts: Any,
    first: Any,
    second: Any,
    penalties: Any,
) -> Any:
    """What sixteen states are reached with at best.

    into           address of the 16 float32 that are written, of sixteen states whose bits but the newest are the same
    means, aparts  addresses of the first of 8 float32, 64 apart: (a + b) / 2 and (a - b) / 2 of the states that lead to
                   all of them
    first, second  addresses of the products of these windows' halves where their oldest bits are zeros: a first half is
                   named by all three of them, a second half by the last alone (see `words`)
    penalties      address of 8 x 16 float32

    numba's own vectoriser finds no vectors in such loops, which makes them ten times slower.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        found, means, aparts, first, second, penalties = arguments
        absolute = function(builder, f"fabs.v{CHOICES}f32", _LANES, _LANES)

        def behind(address: Any, offset: int, kind: Any) -> Any:
            return load(builder, after(builder, address, offset), kind)

        def for_all(address: Any, oldest: int) -> Any:
            return in_all(builder, behind(address, oldest * MIDDLES * FLOAT_BYTES, _NUMBER), _LANES)

        seconds = [behind(second, last * SECOND_BYTES, _LANES) for last in range(2)]
        best = None
        for oldest in range(OLDEST):
            mean, apart = (
                in_all(builder, behind(pair, oldest * MIDDLES * FLOAT_BYTES, _NUMBER), _LANES)
                for pair in (means, aparts)
            )
            along = builder.fadd(behind(first, oldest * FIRST_BYTES, _LANES), seconds[oldest & 1])
            penalty = behind(penalties, oldest * LINE_BYTES, _LANES)
            reached = builder.fadd(builder.call(absolute, [builder.fadd(along, apart)]), builder.fsub(mean, penalty))
            better = reached if best is None else builder.fcmp_ordered(">", reached, best)
            best = reached if best is None else builder.select(better, reached, best)
        store(builder, best, found)
        return context.get_dummy_value()

    return types.void(into, means, aparts, first, second, penalties), code
