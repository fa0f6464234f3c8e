"""The words that the windows of codes name, a whole one at once in LLVM's vectors: copied, or met by a query.

numba's own vectoriser takes a word column by column, for two to eight times as long.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from headwater_indexer.codes.words import WINDOWS
from headwater_indexer.compiling import compiled
from headwater_indexer.vector_code import ADDRESS, FLOAT_BYTES, after, behind, function, load, store, variable

_NUMBER = ir.FloatType()
_ANY_ORDER = ("fast",)  # of a sum


class _Words:
    """Code that walks along rows of so many bytes, given by their addresses; words are float32 [windows, columns]."""

    def __init__(self, builder: Any, columns: int) -> None:
        self.builder = builder
        self.columns = columns
        self.word = ir.VectorType(_NUMBER, columns)

    @contextmanager
    def of_each_byte(self, words: Any, rows: list[Any], length: Any) -> Iterator[tuple[Any, list[tuple[Any, Any]]]]:
        """The number of a byte's first step, and each row's two words there."""
        builder = self.builder
        windows = [variable(builder, self.number(0)) for _ in rows]
        with cgutils.for_range(builder, length) as loop:
            named = []
            for row, window in zip(rows, windows, strict=True):
                byte = builder.zext(load(builder, builder.add(row, loop.index), ir.IntType(8), align=1), ADDRESS)
                bits = builder.or_(builder.shl(builder.load(window), self.number(8)), byte)
                builder.store(bits, window)
                named.append((self._word_of(words, builder.lshr(bits, self.number(4))), self._word_of(words, bits)))
            yield builder.shl(loop.index, self.number(1)), named

    def _word_of(self, words: Any, bits: Any) -> Any:
        return self.word_at(words, self.builder.and_(bits, self.number(WINDOWS - 1)))

    def word_at(self, begin: Any, place: Any) -> Any:
        """One of words that lie one behind the other."""
        return load(self.builder, self.behind(begin, place), self.word)

    def behind(self, begin: Any, count: Any) -> Any:
        """The address so many words behind another."""
        return behind(self.builder, begin, count, FLOAT_BYTES * self.columns)

    def number(self, value: int) -> Any:
        return ir.Constant(ADDRESS, value)

    def sum_of(self, word: Any) -> Any:
        add = function(self.builder, f"vector.reduce.fadd.v{self.columns}f32", _NUMBER, _NUMBER, self.word)
        return self.builder.call(add, [ir.Constant(_NUMBER, 0.0), word], fastmath=_ANY_ORDER)


def _copying(_: Any, into: Any, words: Any, row: Any, length: Any, columns: Any) -> Any:
    """Writes the words of a row one behind the other."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        found, table, of_row, count, _ = arguments
        code = _Words(builder, columns.literal_value)
        with code.of_each_byte(table, [of_row], count) as (step, [(one, two)]):
            store(builder, one, code.behind(found, step))
            store(builder, two, code.behind(found, builder.add(step, code.number(1))))
        return context.get_dummy_value()

    return types.void(into, words, row, length, columns), write


def _multiplying(_: Any, into: Any, words: Any, query: Any, first: Any, second: Any, length: Any, columns: Any) -> Any:
    """Writes the products of two rows, whose sums do not wait for one another, with a query: float32 [2]."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        found, table, asked, *rows, count, _ = arguments
        code = _Words(builder, columns.literal_value)
        nothing = ir.Constant(code.word, [0.0] * code.columns)
        sums = [(variable(builder, nothing), variable(builder, nothing)) for _ in rows]
        with code.of_each_byte(table, rows, count) as (step, named):
            parts = code.word_at(asked, step), code.word_at(asked, builder.add(step, code.number(1)))
            for both, totals in zip(named, sums, strict=True):
                for word, part, total in zip(both, parts, totals, strict=True):
                    product = builder.fmul(word, part, flags=_ANY_ORDER)
                    builder.store(builder.fadd(builder.load(total), product, flags=_ANY_ORDER), total)
        for row, totals in enumerate(sums):
            both = builder.fadd(*map(builder.load, totals), flags=_ANY_ORDER)
            store(builder, code.sum_of(both), after(builder, found, FLOAT_BYTES * row))
        return context.get_dummy_value()

    return types.void(into, words, query, first, second, length, columns), write


_copy: Any = intrinsic(prefer_literal=True)(_copying)
_products: Any = intrinsic(prefer_literal=True)(_multiplying)


@cache
def decode_by(columns: int) -> Callable[[Any, Any, Any], None]:
    """The kernel for words of so many columns."""

    def decode(words: Any, codes: Any, found: Any) -> None:
        """Fills `found`, float32 [rows, steps x columns]: words float32 [windows, columns], codes uint8 [rows, bytes],
        whose bytes lie one behind the other."""
        begin, apart, length = codes.ctypes.data, codes.strides[0], codes.shape[1]
        of_words, into, size = words.ctypes, found.ctypes.data, found.strides[0]
        for row in range(len(codes)):
            _copy(into + row * size, of_words.data, begin + row * apart, length, columns)

    return compiled(decode)  # type: ignore[no-any-return]


@cache
def multiply_by(columns: int) -> Callable[[Any, Any, Any, Any], None]:
    """The kernel for words of so many columns, a power of two."""

    def multiply(words: Any, query: Any, codes: Any, found: Any) -> None:
        """Fills `found`, float32 [rows]: as `decode_by`, and query float32 [steps, columns]."""
        begin, apart, rows = codes.ctypes.data, codes.strides[0], len(codes)
        both = np.empty(2, np.float32)
        into, of_words, of_query = both.ctypes, words.ctypes, query.ctypes
        for row in range(0, rows, 2):
            first, second = begin + row * apart, begin + min(row + 1, rows - 1) * apart
            _products(into.data, of_words.data, of_query.data, first, second, codes.shape[1], columns)
            found[row] = both[0]
            if row + 1 < rows:
                found[row + 1] = both[1]

    return compiled(multiply)  # type: ignore[no-any-return]
