"""Viterbi's search through the windows of a trellis: the sums forwards, and the choices from the end backwards."""

from typing import Any

import numpy as np

from headwater_indexer.codes.lanes_kernel import FLOAT_BYTES, LINE_BYTES, PLACE_BYTES, best_of_lanes
from headwater_indexer.codes.words import CHOICES, MIDDLES, OLDEST, POSITIVE, STATES, first_half, second_half
from headwater_indexer.compiling import compiled

_best_of_lanes: Any = best_of_lanes  # whose first argument is numba's own


def _forwards(
    first: Any, second: Any, places_first: Any, places_second: Any, penalties: Any, short: Any, metrics: Any
) -> None:
    """Fills the metrics after each step.

    first, second  float32 [steps, 512]            a row's products with the halves
    places         int64 [64, 8]                   where sixteen windows' halves stand among the 512
    penalties      float32 [2, 64, 8, 16]          half the squared length of each window's word, for each length
    short          int64 [steps]                   which length
    metrics        float32 [steps + 1, 1024]       the first is given
    """
    of_first, of_second = places_first.ctypes.data, places_second.ctypes.data
    for step in range(len(first)):
        here, after = metrics[step].ctypes.data, metrics[step + 1].ctypes.data
        lanes = penalties[short[step]].ctypes.data
        one, two = first[step].ctypes.data, second[step].ctypes.data
        for middle in range(MIDDLES):
            _best_of_lanes(
                after + middle * LINE_BYTES,
                here + middle * FLOAT_BYTES,
                one,
                of_first + middle * OLDEST * PLACE_BYTES,
                two,
                of_second + middle * OLDEST * PLACE_BYTES,
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
