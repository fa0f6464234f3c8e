"""Viterbi's search through the windows of a trellis: the sums forwards, and the choices from the end backwards."""

from typing import Any

import numpy as np

from headwater_indexer.codes.lanes_kernel import LINE_BYTES, LINES, best_of_lanes
from headwater_indexer.codes.words import CHOICES, HALVES, MIDDLES, OLDEST, POSITIVE, STATES, first_half, second_half
from headwater_indexer.compiling import compiled
from headwater_indexer.vector_code import FLOAT_BYTES

_best_of_lanes: Any = best_of_lanes  # whose first argument is numba's own


def _with_halves(columns: Any, halves: Any, found: Any) -> None:
    """Fills `found` [512] with the products of some columns and the halves of words, float32 [columns, 512]."""
    for half in range(HALVES):
        found[half] = columns[0] * halves[0, half]
    for column in range(1, len(columns)):
        for half in range(HALVES):
            found[half] += columns[column] * halves[column, half]


_products = compiled(_with_halves)


def _forwards(row: Any, halves: Any, penalties: Any, short: Any, metrics: Any) -> None:
    """Fills the metrics after each step.

    row        float32 [steps, 2, columns]
    halves     float32 [2, columns, 512]
    penalties  float32 [2, 64, 8, 16]          half the squared length of each window's word, for each length
    short      int64 [steps]                   which length
    metrics    float32 [steps + 1, 1024]       the first is given
    """
    pairs = STATES // 2  # of states with opposite words
    means, aparts = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    first, second = np.empty(HALVES, np.float32), np.empty(HALVES, np.float32)
    of_means, of_aparts, one, two = means.ctypes, aparts.ctypes, first.ctypes, second.ctypes
    for step in range(len(row)):
        _products(row[step, 0], halves[0], first)
        _products(row[step, 1], halves[1], second)
        for pair in range(pairs):
            zero, opposite = metrics[step, pair], metrics[step, pair + pairs]
            means[pair], aparts[pair] = (zero + opposite) * np.float32(0.5), (zero - opposite) * np.float32(0.5)
        after, lanes = metrics[step + 1].ctypes.data, penalties[short[step]].ctypes.data
        for middle in range(MIDDLES):
            _best_of_lanes(
                after + middle * LINE_BYTES,
                of_means.data + middle * FLOAT_BYTES,
                of_aparts.data + middle * FLOAT_BYTES,
                one.data + middle // LINES * LINE_BYTES,
                two.data + middle % LINES * LINE_BYTES,
                lanes + middle * OLDEST * LINE_BYTES,
            )


def _product(columns: Any, half: Any) -> Any:
    total = np.float32(0)
    for column in range(len(columns)):
        total += columns[column] * half[column]
    return total


forwards = compiled(_forwards)
_along = compiled(_product)
_first, _second = compiled(first_half), compiled(second_half)


def _backwards(row: Any, halves: Any, penalties: Any, short: Any, metrics: Any, found: Any) -> Any:
    """Fills the windows of the best path, from its end; returns the state that it begins in, and the row's product with
    its words.

    row     float32 [steps, 2, columns]
    halves  float32 [2, 512, columns]
    metrics as `forwards` has filled them
    found   int64 [steps]
    """
    state: Any = np.argmax(metrics[len(row)])
    total = np.float64(0)
    for step in range(len(row) - 1, -1, -1):
        middle, newest = state // CHOICES, state % CHOICES
        best: Any = 0
        highest = along = np.float32(-np.inf)
        seconds = (
            _along(row[step, 1], halves[1, _second(state)]),
            _along(row[step, 1], halves[1, _second(state + STATES)]),
        )
        for oldest in range(OLDEST):
            window = oldest * STATES + state
            product = _along(row[step, 0], halves[0, _first(window)]) + seconds[oldest & 1]
            penalty = penalties[short[step], middle, oldest, newest]
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
