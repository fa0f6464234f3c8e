"""Trellis codes: four bits name one of 16,384 words, because the ten bits before them take part.

A code of 256 words for each byte by itself keeps 0.74 to 0.79 of what Shannon's bound lets any code of so many bits
keep of a Gaussian row. Here every step of a few columns adds four bits, and the last fourteen name its word: a choice
also decides what can follow, and the best path through all steps (Viterbi) is found for the row as a whole. That keeps
0.91 to 0.94. The words are random: nothing is fitted on rows. Source: trellis coded quantisation (Marcellin and
Fischer, 1990), with overlapping windows as states as in QTIP (arXiv 2406.11235).
"""

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, Integer, UInt8
from torch import Tensor
from torch.nn import functional

from headwater_indexer import compiling
from headwater_indexer.codes.blocks import product_of_decoded
from headwater_indexer.codes.codes import RowScorer, Scorer
from headwater_indexer.codes.decoding import decode, multiply
from headwater_indexer.codes.viterbi import BestPaths
from headwater_indexer.codes.words import (
    CHOICES,
    MIDDLES,
    OLDEST,
    POSITIVE,
    STATES,
    STEPS_IN_BYTE,
    WINDOWS,
    first_half,
    random_halves,
    second_half,
    windows,
)

_METRIC_BYTES = {"cpu": 128 << 20, "cuda": 4 << 30}  # held for the way back
_ROWS_AT_ONCE = {"cpu": 64, "cuda": 4096}
_LONGEST = 64  # columns of words that one query is multiplied with as they are read
_FIRST = 3  # steps, after which every state has been reached

_Path = tuple[Int64[Tensor, "rows steps"], Int64[Tensor, " rows"], Float64[Tensor, " rows"]]
_BestPath = Callable[[Float[Tensor, "rows steps 2 longest"], Float[Tensor, "rows states"]], _Path]


class TrellisCodes:
    """Columns in a random order, spread evenly over two steps for each byte."""

    def __init__(
        self, order: Int64[Tensor, " columns"], halves: Float[Tensor, "2 halves longest"], width: int, size: int
    ) -> None:
        self._order = order
        self._halves = halves
        self._width = width
        self.bytes = size  # of a row
        self._steps = size * STEPS_IN_BYTE
        columns = torch.arange(len(order), device=order.device)
        step_of = columns * self._steps // len(order)
        starts = torch.searchsorted(step_of, torch.arange(self._steps + 1, device=order.device))
        lengths = starts.diff()  # of the steps: they differ by one column at most
        place = columns - starts[step_of]
        # A step's columns stand turn by turn in its first half and in its second.
        slots = (2 * step_of + place % 2) * halves.shape[2] + place // 2
        # The column in each place of full-length steps, or that behind the last where a place is empty.
        self._columns = order.new_full((self._steps * 2 * halves.shape[2],), width).index_put((slots,), order)
        longest = int(lengths.max())
        self._short = (lengths < longest).long()
        # Half the squared lengths of the halves, and of positive windows' words, cut to so many columns.
        self._of_halves = torch.stack([self._half_squares(length) for length in (longest, longest - 1)])
        named = torch.arange(POSITIVE, device=order.device)
        self._penalties = self._of_halves[:, 0, first_half(named)] + self._of_halves[:, 1, second_half(named)]

    @classmethod
    def make(cls, order: Int64[Tensor, " columns"], width: int, size: int, *, seed: int) -> "TrellisCodes":
        steps = size * STEPS_IN_BYTE
        return cls(order, random_halves(-(-len(order) // steps), 4 * steps / len(order), seed), width, size)

    def tensors(self) -> dict[str, Tensor]:
        size = torch.tensor(self.bytes)
        return {"order": self._order.int(), "halves": self._halves, "width": torch.tensor(self._width), "bytes": size}

    def _half_squares(self, length: int) -> Float[Tensor, "2 halves"]:
        first, second = self._halves[0, :, : (length + 1) // 2], self._halves[1, :, : length // 2]
        return torch.stack([first.square().sum(1), second.square().sum(1)]) / 2

    def encode(self, rows: Float[Tensor, "rows width"]) -> tuple[Tensor, Float64[Tensor, " rows"]]:
        """The codes, uint8 [rows, bytes], and <s, v> for each row v and what its codes stand for."""
        steps = self._in_steps(rows)
        kind = rows.device.type
        best_path: _BestPath
        if kind == "cpu" and self._steps > _FIRST and compiling.has_numba():
            best_path = BestPaths(self._halves, self._of_halves, self._short[_FIRST:])
            at_once = _ROWS_AT_ONCE[kind]
        else:
            best_path = self._best_path
            at_once = min(_ROWS_AT_ONCE[kind], _METRIC_BYTES[kind] // (4 * STATES * self._steps))
        parts = [self._whole_path(part, best_path) for part in steps.split(max(1, at_once))]
        named, along = (torch.cat(found) for found in zip(*parts, strict=True))
        nibbles = (named % CHOICES).to(torch.uint8)
        return nibbles[:, 0::2] * CHOICES + nibbles[:, 1::2], along

    def _in_steps(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows steps 2 longest"]:
        """The columns in their order, steps and halves; zeros at the end of the shorter ones."""
        spread = rows.new_empty(len(rows), len(self._columns))
        # One row stays in the processor's own memory; all at once do not, and take half as long again.
        for row, into in zip(rows, spread, strict=True):
            torch.index_select(functional.pad(row, (0, 1)), 0, self._columns, out=into)
        return spread.view(len(rows), self._steps, 2, -1)

    def _whole_path(
        self, rows: Float[Tensor, "rows steps 2 longest"], best_path: _BestPath
    ) -> tuple[Int64[Tensor, "rows steps"], Float64[Tensor, " rows"]]:
        """The windows of the path nearest to each row, and the row's product with it."""
        first = min(_FIRST, self._steps)
        begun = self._begun(rows[:, :first])
        metrics = begun.view(len(rows), -1, min(STATES, begun.shape[1])).amax(1)
        found, state, along = best_path(rows[:, first:], metrics)
        ends = state[:, None] + torch.arange(begun.shape[1] // metrics.shape[1], device=rows.device) * STATES
        last = ends.gather(1, begun.gather(1, ends).argmax(1, keepdim=True))
        behind = CHOICES ** torch.arange(first - 1, -1, -1, device=rows.device)
        named = last // behind
        return torch.cat([named, found], 1), along + (self._words(named) * rows[:, :first].flatten(2)).sum((1, 2))

    def _begun(self, rows: Float[Tensor, "rows first 2 longest"]) -> Float[Tensor, "rows paths"]:
        """The sums of <row, word> - |word|^2 / 2 over the first steps, along each path: there is one to each window."""
        sums = rows.new_zeros(len(rows), 1)
        for step in range(rows.shape[1]):
            named = torch.arange(CHOICES ** (step + 1), device=rows.device)
            gained = self._products(rows[:, step], named) - self._penalties[self._short[step], named]
            sums = sums.repeat_interleave(CHOICES, 1) + gained
        return sums

    def _products(
        self, columns: Float[Tensor, "rows 2 longest"], named: Int64[Tensor, " windows"]
    ) -> Float[Tensor, "rows windows"]:
        """With the words of positive windows."""
        first, second = (columns[:, half] @ self._halves[half].T for half in range(2))
        return first[:, first_half(named)] + second[:, second_half(named)]

    def _best_path(self, rows: Float[Tensor, "rows steps 2 longest"], begun: Float[Tensor, "rows states"]) -> _Path:
        """As `BestPaths` does, for all rows at once."""
        return self._way_back(rows, self._forwards(rows, begun))

    def _forwards(
        self, rows: Float[Tensor, "rows steps 2 longest"], metrics: Float[Tensor, "rows states"]
    ) -> list[Float[Tensor, "rows states"]]:
        """The best sum over all paths to each state, before each of these steps and at their end."""
        named = torch.arange(POSITIVE, device=rows.device)
        found = [metrics]
        for step in range(rows.shape[1]):
            penalties = self._penalties[self._short[step + _FIRST]].view(-1, CHOICES)
            products = self._products(rows[:, step], named).view(len(rows), -1, CHOICES)
            found.append(_advance(found[-1], products, penalties))
        return found

    def _way_back(
        self, rows: Float[Tensor, "rows steps 2 longest"], metrics: list[Float[Tensor, "rows states"]]
    ) -> _Path:
        """The windows of these steps on the best path, the state that it begins in, and the rows' products with it."""
        state = metrics[-1].argmax(1)
        found = torch.empty(rows.shape[:2], dtype=torch.long, device=rows.device)
        total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        oldest = torch.arange(CHOICES, device=rows.device) * MIDDLES
        for step in range(rows.shape[1] - 1, -1, -1):
            before = oldest + (state // CHOICES)[:, None]  # the states that lead here
            leading = before * CHOICES + (state % CHOICES)[:, None]
            along = torch.bmm(self._words(leading), rows[:, step].flatten(1)[:, :, None])[:, :, 0]
            penalties = self._penalties[self._short[step + _FIRST], leading % POSITIVE]
            best = (metrics[step].gather(1, before) + along - penalties).argmax(1, keepdim=True)
            found[:, step] = leading.gather(1, best)[:, 0]
            state = before.gather(1, best)[:, 0]
            total += along.gather(1, best)[:, 0]
        return found, state, total

    def _words(self, named: Integer[Tensor, "rows windows"]) -> Float[Tensor, "rows windows columns"]:
        """Both halves of these windows' words, one behind the other."""
        first = functional.embedding(first_half(named), self._halves[0])
        second = functional.embedding(second_half(named), self._halves[1])
        return torch.cat([first, second], 2) * (1 - 2 * (named // POSITIVE))[:, :, None]

    def decode(self, codes: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows width"]:
        """What the codes of some rows stand for; zeros in columns that are not coded."""
        decoded = self._halves.new_zeros(len(codes), self._width + 1)
        decoded[:, self._columns] = self._by_steps(codes.numpy())
        return decoded[:, : self._width]

    def quick_scorer(self, query: Float[Tensor, " width"]) -> RowScorer | None:
        """Scores rows for one query by a kernel of numba's, word by word; None where words are very long."""
        if self._padded.shape[1] > _LONGEST:
            return None
        steps = self._in_steps(query[None])[0].flatten(1)
        return partial(multiply, self._padded, _wider(steps, self._padded.shape[1]).numpy())

    @cached_property
    def _table(self) -> Float32[np.ndarray, "windows columns"]:
        """Every window's word."""
        return self._words(torch.arange(WINDOWS)[None])[0].numpy()

    @cached_property
    def _padded(self) -> Float32[np.ndarray, "windows columns"]:
        """Words with zeros behind, so that their columns are a power of two."""
        table = torch.from_numpy(self._table)
        return _wider(table, 1 << (table.shape[1] - 1).bit_length()).numpy()

    def scorer(self, queries: Float[Tensor, "queries width"]) -> Scorer:
        return product_of_decoded(self._by_steps, self._in_steps(queries).flatten(1))

    def _by_steps(self, codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows places"]:
        """What the codes stand for, in the order of `_in_steps`."""
        if compiling.has_numba():
            return torch.from_numpy(decode(self._table, codes))
        return self._words(torch.from_numpy(windows(codes))).flatten(1)


def _wider(numbers: Float[Tensor, "rows columns"], columns: int) -> Float[Tensor, "rows more"]:
    """With zeros behind."""
    return functional.pad(numbers, (0, columns - numbers.shape[1])).contiguous()


def _advance(
    metrics: Float[Tensor, "rows states"],
    products: Float[Tensor, "rows middle choices"],
    penalties: Float[Tensor, "middle choices"],
) -> Float[Tensor, "rows states"]:
    """One step of Viterbi's search, for a state whose oldest bit is 0 and its twin at once: their words are opposite,
    and max(a + p, b - p) = (a + b) / 2 + |p + (a - b) / 2|. Overwrites `products`."""
    zero, one = metrics[:, : STATES // 2], metrics[:, STATES // 2 :]
    products += ((zero - one) / 2)[:, :, None]
    products.abs_()
    products -= penalties
    products += ((zero + one) / 2)[:, :, None]
    return products.view(len(metrics), OLDEST, STATES).amax(1)
