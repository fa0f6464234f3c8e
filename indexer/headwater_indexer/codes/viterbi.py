"""The best path through a trellis for each row, on the CPU's cores, compiled by numba.

A step looks at 16,384 windows of a row, two of opposite words together and sixteen such at once.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from headwater_indexer.codes.words import CHOICES, MIDDLES, OLDEST, STATES


def best_windows(
    rows: Float[Tensor, "rows steps 2 columns"],
    begun: Float[Tensor, "rows states"],
    halves: Float[Tensor, "2 halves columns"],
    penalties: Float[Tensor, "lengths windows"],
    short: Int64[Tensor, " steps"],
) -> tuple[Int64[Tensor, "rows steps"], Int64[Tensor, " rows"], Float64[Tensor, " rows"]]:
    """The windows of the best paths, the states that they begin in, and the rows' products with their words.

    `begun` is the best sum of <row, word> - |word|^2 / 2 on the way to each state, `penalties` half the squared length
    of each positive window's word, for each of the two lengths that `short` gives the steps.
    """
    found = torch.empty(rows.shape[:2], dtype=torch.long)
    states = torch.empty(len(rows), dtype=torch.long)
    along = torch.empty(len(rows), dtype=torch.float64)
    lanes = penalties.view(-1, OLDEST, MIDDLES, CHOICES).transpose(1, 2).contiguous().numpy()
    kernel = _Kernel(halves.contiguous(), lanes, short.numpy())

    def follow(chosen: Iterable[int]) -> None:
        metrics = np.empty((rows.shape[1] + 1, STATES), dtype=np.float32)
        for row in chosen:
            metrics[0] = begun[row].numpy()
            states[row], along[row] = kernel(rows[row], metrics, found[row].numpy())

    # A step is too small to be shared between cores, so each core takes rows of its own.
    workers = min(torch.get_num_threads(), len(rows))
    with ThreadPoolExecutor(max(1, workers), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(follow, (range(first, len(rows), workers) for first in range(workers))))
    return found, states, along


class _Kernel:
    def __init__(self, halves: Float[Tensor, "2 halves columns"], penalties: Any, short: Any) -> None:
        from headwater_indexer.codes.viterbi_kernel import backwards, forwards

        self._forwards, self._backwards = forwards, backwards
        self._halves, self._penalties, self._short = halves.numpy(), penalties, short
        self._by_column = np.ascontiguousarray(self._halves.transpose(0, 2, 1))

    def __call__(
        self, row: Float[Tensor, "steps 2 columns"], metrics: Float32[np.ndarray, "steps_and_one states"], found: Any
    ) -> tuple[int, float]:
        """Fills the row's windows, and the metrics behind their first; returns the state before the first step, and the
        row's product with its words."""
        columns = row.contiguous().numpy()
        self._forwards(columns, self._by_column, self._penalties, self._short, metrics)
        state, along = self._backwards(columns, self._halves, self._penalties, self._short, metrics, found)
        return int(state), float(along)
