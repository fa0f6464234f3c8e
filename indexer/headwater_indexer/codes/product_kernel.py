"""A query met by rows of words as they are read, a whole word at once in LLVM's vectors.

numba's own vectoriser takes a word column by column, for two to four times as long.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from headwater_indexer.codes.words import WINDOWS
from headwater_indexer.compiling import compiled

ROWS = 2  # together: each waits for its own sums alone
_ADDRESS, _NUMBER = ir.IntType(64), ir.FloatType()
_NUMBER_BYTES = 4
_ANY_ORDER = ("fast",)


def _write_products(builder: Any, arguments: Any, columns: int) -> None:
    """Of ROWS rows of so many bytes, given by their addresses, with a query, float32 [2 x bytes, columns]; `words` are
    float32 [windows, columns], and the sums, float32 [ROWS], are written to `found`."""
    found, words, query, first, second, length = arguments
    word = ir.VectorType(_NUMBER, columns)
    nothing = ir.Constant(word, [0.0] * columns)

    def load(address: Any, kind: Any, align: int) -> Any:
        loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
        loaded.align = align
        return loaded

    def behind(address: Any, number: Any) -> Any:
        """The address so many words behind."""
        return builder.add(address, builder.mul(number, ir.Constant(_ADDRESS, _NUMBER_BYTES * columns)))

    def variable(value: Any) -> Any:
        return cgutils.alloca_once_value(builder, value)  # type: ignore[no-untyped-call]

    windows = [variable(ir.Constant(_ADDRESS, 0)) for _ in range(ROWS)]
    sums = [[variable(nothing), variable(nothing)] for _ in range(ROWS)]  # of a byte's first steps and of its second
    with cgutils.for_range(builder, length) as loop:
        step = builder.shl(loop.index, ir.Constant(_ADDRESS, 1))
        of_query = [
            load(behind(query, builder.add(step, ir.Constant(_ADDRESS, n))), word, _NUMBER_BYTES) for n in (0, 1)
        ]
        for row, window, totals in zip((first, second), windows, sums, strict=True):
            byte = builder.zext(load(builder.add(row, loop.index), ir.IntType(8), 1), _ADDRESS)
            bits = builder.or_(builder.shl(builder.load(window), ir.Constant(_ADDRESS, 8)), byte)
            builder.store(bits, window)
            for half, part, total in zip((4, 0), of_query, totals, strict=True):
                named = builder.and_(
                    builder.lshr(bits, ir.Constant(_ADDRESS, half)), ir.Constant(_ADDRESS, WINDOWS - 1)
                )
                product = builder.fmul(load(behind(words, named), word, _NUMBER_BYTES), part, flags=_ANY_ORDER)
                builder.store(builder.fadd(builder.load(total), product, flags=_ANY_ORDER), total)
    add = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, ir.FunctionType(_NUMBER, [_NUMBER, word]), f"llvm.vector.reduce.fadd.v{columns}f32"
    )
    for number, totals in enumerate(sums):
        both = builder.fadd(*map(builder.load, totals), flags=_ANY_ORDER)
        place = builder.add(found, ir.Constant(_ADDRESS, _NUMBER_BYTES * number))
        total = builder.call(add, [ir.Constant(_NUMBER, 0.0), both], fastmath=_ANY_ORDER)
        builder.store(total, builder.inttoptr(place, _NUMBER.as_pointer()))


def _products_of_two(
    _: Any, found: Any, words: Any, query: Any, first: Any, second: Any, length: Any, columns: Any
) -> Any:
    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        _write_products(builder, arguments[:-1], columns.literal_value)
        return context.get_dummy_value()

    return types.void(found, words, query, first, second, length, columns), write


_products: Any = intrinsic(prefer_literal=True)(_products_of_two)


@cache
def multiply_by(columns: int) -> Callable[[Any, Any, Any, Any], None]:
    """The kernel for words of so many columns, a power of two."""

    def multiply(words: Any, query: Any, codes: Any, found: Any) -> None:
        """Fills `found`, float32 [rows]: words float32 [windows, columns], query float32 [steps, columns], codes uint8
        [rows, bytes]."""
        rows, length, apart = len(codes), codes.shape[1], codes.strides[0]
        both = np.empty(ROWS, np.float32)
        into, of_words, of_query, begin = both.ctypes, words.ctypes, query.ctypes, codes.ctypes.data
        for row in range(0, rows, ROWS):
            first, second = begin + row * apart, begin + min(row + 1, rows - 1) * apart
            _products(into.data, of_words.data, of_query.data, first, second, length, columns)
            found[row] = both[0]
            if row + 1 < rows:
                found[row + 1] = both[1]

    return compiled(multiply)  # type: ignore[no-any-return]
