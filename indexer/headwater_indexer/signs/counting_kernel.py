"""Differing bits of rows and a plane, both folded (see `folding`), eight words at once in LLVM's vectors.

numba's own vectoriser takes four, where a processor with an instruction for this counts eight in the same time.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from headwater_indexer.signs.coder import LINE_WORDS
from headwater_indexer.signs.folding import FOLDED
from headwater_indexer.vector_code import after, function, in_all, load, store, variable

EIGHT = LINE_WORDS  # rows, so that their counts are a line
_BYTES = 8  # of a word, and of an address
_LINE_BYTES = _BYTES * LINE_WORDS
_WORD = ir.IntType(64)
_LINE = ir.VectorType(_WORD, LINE_WORDS)
_PLACES = ir.VectorType(ir.IntType(32), LINE_WORDS)
_NUMBERS = ir.VectorType(ir.FloatType(), LINE_WORDS)


class _Code:
    """What the functions below are written with."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self._count = function(builder, f"ctpop.v{LINE_WORDS}i64", _LINE, _LINE)
        self._sum = function(builder, f"vector.reduce.add.v{LINE_WORDS}i64", _WORD, _LINE)

    def differing(self, plane: Any, rows: list[Any], lines: Any) -> list[Any]:
        """A line for each of the rows, whose words' sum is how many bits differ in so many lines."""
        builder, nothing = self.builder, ir.Constant(_LINE, [0] * LINE_WORDS)
        once, twice = ([variable(builder, nothing) for _ in rows] for _ in range(2))
        threes = builder.udiv(lines, ir.Constant(_WORD, FOLDED))
        with cgutils.for_range(builder, threes) as loop:
            offset = builder.mul(loop.index, ir.Constant(_WORD, FOLDED * _LINE_BYTES))
            places = [after(builder, offset, _LINE_BYTES * place) for place in range(FOLDED)]
            of_plane = [load(builder, builder.add(plane, place), _LINE) for place in places]
            for row, ones, twos in zip(rows, once, twice, strict=True):
                first, second, third = (
                    builder.xor(load(builder, builder.add(row, place), _LINE), line)
                    for place, line in zip(places, of_plane, strict=True)
                )
                self._add_bits(third, ones)
                self._add_bits(builder.xor(builder.or_(first, second), third), twos)
        done = builder.mul(threes, ir.Constant(_WORD, FOLDED))
        with cgutils.for_range(builder, builder.sub(lines, done)) as loop:
            offset = builder.mul(builder.add(done, loop.index), ir.Constant(_WORD, _LINE_BYTES))
            line = load(builder, builder.add(plane, offset), _LINE)
            for row, ones in zip(rows, once, strict=True):
                self._add_bits(builder.xor(load(builder, builder.add(row, offset), _LINE), line), ones)
        one = ir.Constant(_LINE, [1] * LINE_WORDS)
        return [
            builder.add(builder.load(ones), builder.shl(builder.load(twos), one))
            for ones, twos in zip(once, twice, strict=True)
        ]

    def _add_bits(self, line: Any, total: Any) -> None:
        counted = self.builder.call(self._count, [line])
        self.builder.store(self.builder.add(self.builder.load(total), counted), total)

    def sum_of(self, line: Any) -> Any:
        return self.builder.call(self._sum, [line])

    def sums_of(self, lines: list[Any]) -> Any:
        """The sums of EIGHT lines, as a line."""
        apart = 1
        while len(lines) > 1:  # two lines become one, of sums of words that are `apart`
            lines = [self._of_both(first, second, apart) for first, second in zip(lines[::2], lines[1::2], strict=True)]
            apart *= 2
        return lines[0]

    def _of_both(self, first: Any, second: Any, apart: int) -> Any:
        low = [LINE_WORDS + place - apart if place & apart else place for place in range(LINE_WORDS)]
        high = [LINE_WORDS + place if place & apart else place + apart for place in range(LINE_WORDS)]
        picked = [self.builder.shuffle_vector(first, second, ir.Constant(_PLACES, words)) for words in (low, high)]
        return self.builder.add(*picked)


def _of_one(_: Any, plane: Any, row: Any, lines: Any) -> Any:
    """How many bits differ in so many lines of a plane and a row, which are given by their addresses."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        of_plane, of_row, count = arguments
        code = _Code(builder)
        return code.sum_of(code.differing(of_plane, [of_row], count)[0])

    return types.int64(plane, row, lines), write


def _above_of_eight(
    _: Any,
    counts: Any,
    plane: Any,
    rows: Any,
    lines: Any,
    scales: Any,
    errors: Any,
    top: Any,
    fall: Any,
    allowed: Any,
    bound: Any,
) -> Any:
    """Of EIGHT rows those for which (top - fall count) scale + allowed error is above the bound, as bits of a number.

    `rows` is where the rows' addresses stand, `scales` and `errors` where their float32 do; the rows' counts of
    differing bits are written to `counts`, int64. Row by row, comparing takes a fourth of the time of all.
    """

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        counted, of_plane, of_rows, count, of_scales, of_errors, *numbers = arguments
        code = _Code(builder)
        each = [load(builder, after(builder, of_rows, _BYTES * row), _WORD) for row in range(EIGHT)]
        found = code.sums_of(code.differing(of_plane, each, count))
        store(builder, found, counted)
        most, slope, allow, least = (in_all(builder, number, _NUMBERS) for number in numbers)
        bits = builder.sitofp(builder.trunc(found, _PLACES), _NUMBERS)
        product = builder.fmul(builder.fsub(most, builder.fmul(slope, bits)), load(builder, of_scales, _NUMBERS))
        score = builder.fadd(product, builder.fmul(allow, load(builder, of_errors, _NUMBERS)))
        above = builder.fcmp_ordered(">", score, least)
        return builder.zext(builder.bitcast(above, ir.IntType(EIGHT)), _WORD)

    return types.int64(counts, plane, rows, lines, scales, errors, top, fall, allowed, bound), write


of_one: Any = intrinsic(_of_one)
above_of_eight: Any = intrinsic(_above_of_eight)
