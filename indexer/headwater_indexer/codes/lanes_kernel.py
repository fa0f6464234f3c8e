"""The inner loops of Viterbi's search, in LLVM's vectors of sixteen: the products of steps with halves of words, and
the best way to each state.

numba's own vectoriser finds no vectors in the second, for ten times as long, and keeps the sums of the first in memory.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from headwater_indexer.codes.words import CHOICES, HALVES, MIDDLES, OLDEST, STATES
from headwater_indexer.vector_code import ADDRESS, FLOAT_BYTES, after, behind, function, in_all, load, store, variable

AT_ONCE = 4  # steps, whose columns meet the same halves
LINE = CHOICES  # halves, or states, in a vector
LINE_BYTES = LINE * FLOAT_BYTES
LINES = 16  # by the four lower bits of six in the middle, which name a second half; the two above name a first one
UPPERS = MIDDLES // LINES
LINES_AT_ONCE = 2  # of halves: with as many steps, eight sums that do not wait for one another
PAIRS = STATES // 2  # of states from which opposite words go on
PAIRS_BYTES = PAIRS * FLOAT_BYTES
HALVES_BYTES = HALVES * FLOAT_BYTES

_FIRST_BYTES = UPPERS * LINE_BYTES  # between first halves whose windows differ by one in their oldest bits
_SECOND_BYTES = LINES * LINE_BYTES  # between second halves whose windows differ in the last of these
_PAIR_BYTES = MIDDLES * FLOAT_BYTES  # between pairs of states that differ by one in their oldest bits
_NUMBER = ir.FloatType()
_LANES = ir.VectorType(_NUMBER, LINE)
_NOTHING = ir.Constant(_LANES, [0.0] * LINE)


@intrinsic
def products_of_lines(_: Any, into: Any, columns: Any, step_bytes: Any, halves: Any, length: Any) -> Any:
    """The products of AT_ONCE steps' columns with the halves of LINES_AT_ONCE lines.

    into        address of float32 [AT_ONCE, 512], at the first of these halves
    columns     address of the first step's float32 [length]; that of the next is `step_bytes` behind
    halves      address of float32 [length, 512], at the first of these
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        found, of_steps, apart, of_halves, count = arguments
        add_product = function(builder, f"fmuladd.v{LINE}f32", _LANES, _LANES, _LANES, _LANES)
        places = [(step, line) for step in range(AT_ONCE) for line in range(LINES_AT_ONCE)]
        sums = {place: variable(builder, _NOTHING) for place in places}
        with cgutils.for_range(builder, count) as loop:
            column = behind(builder, of_steps, loop.index, FLOAT_BYTES)
            half = behind(builder, of_halves, loop.index, HALVES_BYTES)
            lines = [load(builder, after(builder, half, line * LINE_BYTES), _LANES) for line in range(LINES_AT_ONCE)]
            for step in range(AT_ONCE):
                in_step = in_all(builder, load(builder, column, _NUMBER), _LANES)
                for line, of_line in enumerate(lines):
                    total = sums[step, line]
                    builder.store(builder.call(add_product, [in_step, of_line, builder.load(total)]), total)
                column = builder.add(column, apart)
        for step, line in places:
            place = after(builder, found, step * HALVES_BYTES + line * LINE_BYTES)
            store(builder, builder.load(sums[step, line]), place)
        return context.get_dummy_value()

    return types.void(into, columns, step_bytes, halves, length), code


@intrinsic
def pairs_of_states(_: Any, into: Any, sums: Any) -> Any:
    """(a + b) / 2, and behind all of them (a - b) / 2, of the sums to states from which opposite words go on.

    into  address of float32 [2, 512]
    sums  address of float32 [2, 512]
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        found, given = arguments
        half = ir.Constant(_LANES, [0.5] * LINE)
        with cgutils.for_range(builder, ir.Constant(ADDRESS, PAIRS // LINE)) as loop:
            zero = behind(builder, given, loop.index, LINE_BYTES)
            mean = behind(builder, found, loop.index, LINE_BYTES)
            one, other = (load(builder, address, _LANES) for address in (zero, after(builder, zero, PAIRS_BYTES)))
            store(builder, builder.fmul(builder.fadd(one, other), half), mean)
            store(builder, builder.fmul(builder.fsub(one, other), half), after(builder, mean, PAIRS_BYTES))
        return context.get_dummy_value()

    return types.void(into, sums), code


@intrinsic
def best_of_lines(
    _: Any,
    into: Any,
    pairs: Any,
    first: Any,
    second: Any,
    first_penalties: Any,
    second_penalties: Any,
) -> Any:
    """What sixteen times sixteen states are reached with at best, those with the same two upper bits in the middle.

    The states before them are taken by twos, those of opposite words: max(a + p, b - p) = (a + b) / 2 +
    |p + (a - b) / 2|, where p is a word's product.

    into                address of float32 [16, 16]; states of a line are the same but for the newest bits
    pairs               address of float32 [2, 8, 64], at the first line's, as `pairs_of_states` has filled them: of the
                        states that lead to all of the line
    first, second       addresses of the products of halves where the windows' oldest bits are zeros: a first half is
                        named by all three of them and the upper bits, a second half by the last and the line (see
                        `words`)
    first_penalties, second_penalties
                        addresses of half the squared lengths of the same halves
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        found, means, of_first, of_second, for_first, for_second = arguments
        aparts = after(builder, means, PAIRS_BYTES)
        absolute = function(builder, f"fabs.v{LINE}f32", _LANES, _LANES)

        def larger(one: Any, other: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", one, other), one, other)

        def oldest_lines(address: Any) -> list[Any]:
            return [load(builder, after(builder, address, old * _FIRST_BYTES), _LANES) for old in range(OLDEST)]

        firsts, penalties = oldest_lines(of_first), oldest_lines(for_first)
        with cgutils.for_range(builder, ir.Constant(ADDRESS, LINES)) as loop:
            line = builder.mul(loop.index, ir.Constant(ADDRESS, LINE_BYTES))
            of_means, of_aparts = (behind(builder, pair, loop.index, FLOAT_BYTES) for pair in (means, aparts))

            def of_pair(address: Any, old: int) -> Any:
                return in_all(builder, load(builder, after(builder, address, old * _PAIR_BYTES), _NUMBER), _LANES)

            bests = []
            for last in range(2):
                own = after(builder, line, last * _SECOND_BYTES)
                along = load(builder, builder.add(of_second, own), _LANES)
                best = None
                for old in range(last, OLDEST, 2):
                    gain = builder.fadd(builder.fadd(firsts[old], along), of_pair(of_aparts, old))
                    kept = builder.fsub(of_pair(of_means, old), penalties[old])
                    reached = builder.fadd(builder.call(absolute, [gain]), kept)
                    best = reached if best is None else larger(reached, best)
                bests.append(builder.fsub(best, load(builder, builder.add(for_second, own), _LANES)))
            store(builder, larger(*bests), builder.add(found, line))
        return context.get_dummy_value()

    return types.void(into, pairs, first, second, first_penalties, second_penalties), code
