"""The best path through a trellis for each row, on the CPU's cores, compiled by numba.

A step looks at 16,384 windows of a row, two of opposite words together and sixteen such at once.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

from headwater_indexer.codes.words import HALVES, STATES

_PART = 32  # steps, whose products with all halves the processor's own memory holds
_MOST_BYTES = 512 << 20  # of all cores' sums; each core's are 4 KB a step


class BestPaths:
    """Finds the best paths of rows of one length, in memory that it keeps from call to call.

    `penalties` is half the squared length of each half of a word, for each of the two lengths that `short` gives the
    steps.
    """

    def __init__(
        self,
        halves: Float[Tensor, "2 halves columns"],
        penalties: Float[Tensor, "lengths 2 halves"],
        short: Int64[Tensor, " steps"],
    ) -> None:
        self._by_half = halves.contiguous().numpy()
        self._by_column = halves.transpose(1, 2).contiguous().numpy()
        self._penalties = penalties.numpy()
        self._short = short.numpy()
        sums = 4 * STATES * (len(short) + 1)
        workers = max(1, min(torch.get_num_threads(), _MOST_BYTES // sums))
        # torch's memory begins where a vector does, numpy's need not: a vector across two lines is read twice.
        self._pairs = torch.empty(workers, STATES).numpy()
        self._products = torch.empty(workers, 2, _PART, HALVES).numpy()
        self._metrics = torch.empty(workers, len(short) + 1, STATES).numpy()

    def __call__(
        self, rows: Float[Tensor, "rows steps 2 columns"], begun: Float[Tensor, "rows states"]
    ) -> tuple[Int64[Tensor, "rows steps"], Int64[Tensor, " rows"], Float64[Tensor, " rows"]]:
        """The windows of the best paths, the states that they begin in, and the rows' products with their words.
        `begun` is the best sum of <row, word> - |word|^2 / 2 on the way to each state."""
        from headwater_indexer.codes.lanes_kernel import AT_ONCE
        from headwater_indexer.codes.viterbi_kernel import backwards, forwards

        found = torch.empty(rows.shape[:2], dtype=torch.long)
        states = torch.empty(len(rows), dtype=torch.long)
        along = torch.empty(len(rows), dtype=torch.float64)
        empty = -rows.shape[1] % AT_ONCE  # steps behind the last

        def follow(worker: int, chosen: Iterable[int]) -> None:
            metrics, known = self._metrics[worker], (self._penalties, self._short)
            for place in chosen:
                row = functional.pad(rows[place], (0, 0, 0, 0, 0, empty)).numpy()
                metrics[0] = begun[place].numpy()
                forwards(row, self._by_column, *known, self._pairs[worker], self._products[worker], metrics)
                states[place], along[place] = backwards(row, self._by_half, *known, metrics, found[place].numpy())

        # A step is too small to be shared between cores, so each core takes rows of its own.
        workers = range(len(self._metrics))
        with ThreadPoolExecutor(len(workers), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(follow, workers, (range(worker, len(rows), len(workers)) for worker in workers)))
        return found, states, along
