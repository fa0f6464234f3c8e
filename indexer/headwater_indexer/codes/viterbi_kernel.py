"""Viterbi's search through the windows of a trellis: the sums forwards, and the choices from the end backwards."""

from typing import Any

import numpy as np

from headwater_indexer.codes.lanes_kernel import (
    AT_ONCE,
    HALVES_BYTES,
    LINE_BYTES,
    LINES,
    LINES_AT_ONCE,
    UPPERS,
    best_of_lines,
    pairs_of_states,
    products_of_lines,
)
from headwater_indexer.codes.words import CHOICES, MIDDLES, OLDEST, POSITIVE, STATES, first_half, second_half
from headwater_indexer.compiling import compiled
from headwater_indexer.vector_code import FLOAT_BYTES

_LOWEST = np.finfo(np.float32).min
_STATES_BYTES = STATES * FLOAT_BYTES
_products_of_lines: Any = products_of_lines  # whose first arguments are numba's own
_pairs_of_states: Any = pairs_of_states
_best_of_lines: Any = best_of_lines


def _multiply(products: Any, part: Any, row: Any, steps: Any, halves: Any, columns: Any) -> None:
    """Fills the products of some steps with all halves, and of steps behind them, so that AT_ONCE divides their number.

    products  address of float32 [2, part, 512]
    row       address of float32 [steps and some more, 2, columns]
    halves    address of float32 [2, columns, 512]
    """
    for half in range(2):
        for line in range(0, HALVES_BYTES, LINES_AT_ONCE * LINE_BYTES):
            for step in range(0, steps, AT_ONCE):
                _products_of_lines(
                    products + (half * part + step) * HALVES_BYTES + line,
                    row + (step * 2 + half) * columns * FLOAT_BYTES,
                    2 * columns * FLOAT_BYTES,
                    halves + half * columns * HALVES_BYTES + line,
                    columns,
                )


def _advance(sums: Any, before: Any, first: Any, second: Any, penalties: Any, pairs: Any) -> None:
    """One step: the best sums over all paths to each state.

    sums, before   addresses of float32 [1024]
    first, second  addresses of float32 [512]     products with halves
    penalties      address of float32 [2, 512]    half the squared length of each half
    pairs          address of float32 [2, 512]    overwritten
    """
    _pairs_of_states(pairs, before)
    for upper in range(UPPERS):
        line = upper * LINE_BYTES
        _best_of_lines(
            sums + line * LINES,
            pairs + upper * LINES * FLOAT_BYTES,
            first + line,
            second,
            penalties + line,
            penalties + HALVES_BYTES,
        )


_products, _one_step = compiled(_multiply), compiled(_advance)
_first, _second = compiled(first_half), compiled(second_half)


def _forwards(row: Any, halves: Any, penalties: Any, short: Any, pairs: Any, products: Any, metrics: Any) -> None:
    """Fills the metrics after each step.

    row        float32 [steps and some more, 2, columns]  zeros behind, so that AT_ONCE divides the steps
    halves     float32 [2, columns, 512]
    penalties  float32 [2, 2, 512]          half the squared length of each half, for each length
    short      int64 [steps]                which length
    pairs      float32 [2, 512]             overwritten
    products   float32 [2, some, 512]       overwritten: of so many steps at once
    metrics    float32 [steps + 1, 1024]    the first is given
    """
    steps, columns, part = len(short), row.shape[2], products.shape[1]
    of_row, of_halves, of_pairs = row.ctypes.data, halves.ctypes.data, pairs.ctypes.data
    of_penalties, of_metrics, of_products = penalties.ctypes.data, metrics.ctypes.data, products.ctypes.data
    for begin in range(0, steps, part):
        end = min(begin + part, steps)
        _products(of_products, part, of_row + begin * 2 * columns * FLOAT_BYTES, end - begin, of_halves, columns)
        for step in range(begin, end):
            first = of_products + (step - begin) * HALVES_BYTES
            _one_step(
                of_metrics + (step + 1) * _STATES_BYTES,
                of_metrics + step * _STATES_BYTES,
                first,
                first + part * HALVES_BYTES,
                of_penalties + short[step] * 2 * HALVES_BYTES,
                of_pairs,
            )


forwards = compiled(_forwards)


def _product(columns: Any, half: Any) -> Any:
    total = np.float32(0)
    for column in range(len(columns)):
        total += columns[column] * half[column]
    return total


_along = compiled(_product)


def _backwards(row: Any, halves: Any, penalties: Any, short: Any, metrics: Any, found: Any) -> Any:
    """Fills the windows of the best path, from its end; returns the state that it begins in, and the row's product with
    its words.

    row     float32 [steps, 2, columns]
    halves  float32 [2, 512, columns]
    metrics as `forwards` has filled them
    found   int64 [steps]
    """
    state: Any = np.argmax(metrics[len(short)])
    total = np.float64(0)
    for step in range(len(short) - 1, -1, -1):
        middle = state // CHOICES
        best: Any = 0
        highest = along = _LOWEST
        of_length = penalties[short[step]]
        seconds = (
            _along(row[step, 1], halves[1, _second(state)]),
            _along(row[step, 1], halves[1, _second(state + STATES)]),
        )
        for oldest in range(OLDEST):
            window = oldest * STATES + state
            product = _along(row[step, 0], halves[0, _first(window)]) + seconds[oldest & 1]
            penalty = of_length[0, _first(window)] + of_length[1, _second(window)]
            zero = metrics[step, oldest * MIDDLES + middle] + product - penalty
            one = metrics[step, (oldest + OLDEST) * MIDDLES + middle] - product - penalty
            if zero > highest:
                highest, best, along = zero, window, product
            if one > highest:
                highest, best, along = one, window + POSITIVE, -product
        found[step] = best
        total = total + np.float64(along)
        state = best // CHOICES
    return state, total


backwards = compiled(_backwards)
