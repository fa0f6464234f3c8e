"""One step of Viterbi's search for sixteen states at once, in LLVM's vectors.

The states before them are taken by twos, those of opposite words: max(a + p, b - p) = (a + b) / 2 + |p + (a - b) / 2|.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from headwater_indexer.codes.words import CHOICES, MIDDLES, OLDEST

FLOAT_BYTES = 4
LINE_BYTES = CHOICES * FLOAT_BYTES
LINES = 16  # by the four lower bits of six in the middle, which name a second half; the two above name a first one
FIRST_BYTES = MIDDLES // LINES * LINE_BYTES  # between first halves whose windows differ by one in their oldest bits
SECOND_BYTES = LINES * LINE_BYTES  # between second halves whose windows differ in the last of these

_NUMBER, _INTEGER = ir.FloatType(), ir.IntType(64)
_LANES = ir.VectorType(_NUMBER, CHOICES)


@intrinsic
def best_of_lanes(
    _: Any,
    after: Any,
    means: Any,
    aparts: Any,
    first: Any,
    second: Any,
    penalties: Any,
) -> Any:
    """What sixteen states are reached with at best.

    after          address of the 16 float32 that are written, of sixteen states whose bits but the newest are the same
    means, aparts  addresses of the first of 8 float32, 64 apart: (a + b) / 2 and (a - b) / 2 of the states that lead to
                   all of them
    first, second  addresses of the products of these windows' halves where their oldest bits are zeros: a first half is
                   named by all three of them, a second half by the last alone (see `words`)
    penalties      address of 8 x 16 float32

    numba's own vectoriser finds no vectors in such loops, which makes them ten times slower.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        after, means, aparts, first, second, penalties = arguments
        absolute: Any = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(_LANES, [_LANES]), f"llvm.fabs.v{CHOICES}f32"
        )

        def load(address: Any, offset: int, kind: Any) -> Any:
            place = builder.inttoptr(builder.add(address, ir.Constant(_INTEGER, offset)), kind.as_pointer())
            loaded = builder.load(place)
            loaded.align = FLOAT_BYTES
            return loaded

        def in_all(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(_LANES, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), CHOICES), [0] * CHOICES))

        seconds = [load(second, last * SECOND_BYTES, _LANES) for last in range(2)]
        best = None
        for oldest in range(OLDEST):
            mean, apart = (in_all(load(pair, oldest * MIDDLES * FLOAT_BYTES, _NUMBER)) for pair in (means, aparts))
            along = builder.fadd(load(first, oldest * FIRST_BYTES, _LANES), seconds[oldest & 1])
            penalty = load(penalties, oldest * LINE_BYTES, _LANES)
            reached = builder.fadd(builder.call(absolute, [builder.fadd(along, apart)]), builder.fsub(mean, penalty))
            better = reached if best is None else builder.fcmp_ordered(">", reached, best)
            best = reached if best is None else builder.select(better, reached, best)
        stored = builder.store(best, builder.inttoptr(after, _LANES.as_pointer()))
        stored.align = FLOAT_BYTES
        return context.get_dummy_value()

    return types.void(after, means, aparts, first, second, penalties), code
