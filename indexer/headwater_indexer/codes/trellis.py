"""Trellis codes: four bits name one of 4,096 words, because the eight bits before them take part.

A code of 256 words for each byte by itself keeps 0.74 to 0.79 of what Shannon's bound lets any code of so many bits
keep of a Gaussian row. Here every step of a few columns adds four bits, and the last twelve name its word: a choice
also decides what can follow, and the best path through all steps (Viterbi) is found for the row as a whole. That keeps
0.91 to 0.94. The words are random: nothing is fitted on rows. Source: trellis coded quantisation (Marcellin and
Fischer, 1990), with overlapping windows as states as in QTIP (arXiv 2406.11235).
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64, Integer, UInt8
from torch import Tensor
from torch.nn import functional

from headwater_indexer.codes.codes import Scorer
from headwater_indexer.codes.walk import Walk

STEPS_IN_BYTE = 2
CHOICES = 16  # of a step: four bits
STATES = 256  # the eight bits before them
WORDS = STATES * CHOICES
_HALF = WORDS // 2
_OLDEST = STATES // CHOICES  # what the oldest four bits of a state are worth

_METRIC_BYTES = {"cpu": 128 << 20, "cuda": 2 << 30}  # held for the way back
_ROWS_AT_ONCE = {"cpu": 32, "cuda": 4096}  # on their way through the trellis: a step's sums stay in a core's cache
_STEPS_MULTIPLIED = 8  # at once: one product of matrices
_TABLE_BYTES = 256 << 20  # of the queries' products with all words
_STEPS_AT_ONCE = 32  # whose tables stay in a core's cache
_DECODED_BYTES = 64 << 20  # of rows decoded at once
_FIRST = 2  # steps, after which every state has been reached, by one path each


def random_words(columns: int, bits_a_column: float, seed: int) -> Float[Tensor, "words columns"]:
    """Gaussian words of the variance that the best code of a Gaussian of variance 1 has, 1 - 2^-2R; each with its
    opposite, which halves the products that a row needs and joins opposite words where paths meet."""
    drawn = torch.randn(_HALF, columns, generator=torch.Generator().manual_seed(seed))
    drawn *= (1 - 4**-bits_a_column) ** 0.5
    return torch.cat([drawn, -drawn])


class TrellisCodes:
    """Columns in a random order, spread evenly over two steps for each byte."""

    def __init__(self, order: Int64[Tensor, " columns"], book: Float[Tensor, "words longest"], width: int, size: int):
        self._order = order
        self._book = book
        self._width = width
        self.bytes = size  # of a row
        steps = size * STEPS_IN_BYTE
        columns = torch.arange(len(order), device=order.device)
        step_of = columns * steps // len(order)
        starts = torch.searchsorted(step_of, torch.arange(steps + 1, device=order.device))
        self._lengths: list[int] = starts.diff().tolist()  # of the steps: they differ by one column at most
        place = columns - starts[step_of]
        self._slots = step_of * book.shape[1] + place  # of the ordered columns among those of full-length steps

    @classmethod
    def make(cls, order: Int64[Tensor, " columns"], width: int, size: int, *, seed: int) -> "TrellisCodes":
        steps = size * STEPS_IN_BYTE
        longest = -(-len(order) // steps)
        return cls(order, random_words(longest, 4 * steps / len(order), seed), width, size)

    def tensors(self) -> dict[str, Tensor]:
        size = torch.tensor(self.bytes)
        return {"order": self._order.int(), "words": self._book, "width": torch.tensor(self._width), "bytes": size}

    def encode(self, rows: Float[Tensor, "rows width"]) -> tuple[Tensor, Float[Tensor, "rows width"]]:
        """The codes, uint8 [rows, bytes], and what they stand for."""
        steps = self._in_steps(rows)
        kind = rows.device.type
        at_once = max(1, min(_ROWS_AT_ONCE[kind], _METRIC_BYTES[kind] // (4 * STATES * steps.shape[1])))
        # A step is too small to be shared between cores, so each core takes rows of its own.
        workers = torch.get_num_threads() if kind == "cpu" else 1
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            words = torch.cat(list(pool.map(self._best_path, steps.split(at_once))))
        nibbles = (words % CHOICES).to(torch.uint8)
        return nibbles[:, 0::2] * CHOICES + nibbles[:, 1::2], self._spelt(words)

    def _in_steps(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows steps longest"]:
        """The columns in their order and steps; zeros at the end of the shorter steps."""
        longest = self._book.shape[1]
        spread = rows.new_zeros(len(rows), len(self._lengths) * longest)
        spread[:, self._slots] = rows[:, self._order]
        steps: Tensor = spread.unflatten(1, (-1, longest))
        return steps

    @cached_property
    def _half_squares(self) -> Float[Tensor, "lengths words"]:
        """Half the squared length of each word, cut to so many columns."""
        return functional.pad(self._book.square().cumsum(1), (1, 0)).T.contiguous() / 2

    def _best_path(self, rows: Float[Tensor, "rows steps longest"]) -> Int64[Tensor, "rows steps"]:
        """The words of the path nearest to each row: the sums forwards, the choices from the end backwards."""
        steps = rows.transpose(0, 1).contiguous()
        metrics = self._forwards(steps)
        state = metrics[-1].argmax(1)
        words = torch.empty(len(steps), len(rows), dtype=torch.long, device=rows.device)
        oldest = torch.arange(CHOICES, device=rows.device) * _OLDEST
        for step in range(len(steps) - 1, _FIRST - 1, -1):
            before = oldest + (state // CHOICES)[:, None]  # the states that lead here
            leading = before * CHOICES + (state % CHOICES)[:, None]
            along = torch.bmm(self._book[leading], steps[step][:, :, None])[:, :, 0]
            reached = (
                metrics[step - _FIRST].gather(1, before) + along - self._half_squares[self._lengths[step]][leading]
            )
            best = reached.argmax(1, keepdim=True)
            words[step] = leading.gather(1, best)[:, 0]
            state = before.gather(1, best)[:, 0]
        words[0], words[1] = state // CHOICES, state
        return words.T

    def _forwards(self, steps: Float[Tensor, "steps rows longest"]) -> Float[Tensor, "steps_less_one rows states"]:
        """The best sum of <row, word> - |word|^2 / 2 over all paths to each state, before each step but the first two
        and at the end."""
        count, rows, _ = steps.shape
        metrics = steps.new_empty(count + 1 - _FIRST, rows, STATES)
        lengths, book = self._lengths, self._book[:_HALF].T.contiguous()
        first = steps[0] @ book[:, :CHOICES] - self._half_squares[lengths[0], :CHOICES]
        second = steps[1] @ book[:, :STATES] - self._half_squares[lengths[1], :STATES]
        metrics[0] = first.repeat_interleave(CHOICES, dim=1) + second
        for start in range(_FIRST, count, _STEPS_MULTIPLIED):
            products = steps[start : start + _STEPS_MULTIPLIED] @ book
            for step, product in enumerate(products, start=start):
                halves = self._half_squares[lengths[step], :_HALF].view(-1, CHOICES)
                _advance(metrics[step - _FIRST], product.view(rows, -1, CHOICES), halves, metrics[step + 1 - _FIRST])
        return metrics

    def decode(self, codes: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows width"]:
        """What the codes of some rows stand for."""
        return self._spelt(torch.from_numpy(windows(codes.numpy())))

    def _spelt(self, words: Integer[Tensor, "rows steps"]) -> Float[Tensor, "rows width"]:
        """The columns that these words give; zeros in those that are not coded."""
        decoded = self._book.new_zeros(len(words), self._width)
        decoded[:, self._order] = functional.embedding(words, self._book).flatten(1)[:, self._slots]
        return decoded

    def walk(self, query: Float[Tensor, " width"]) -> Walk:
        """Scores few rows for one query."""
        steps = self._in_steps(query[None])[0].contiguous()
        return Walk(4, (WORDS - 1).bit_length(), self._book.numpy(), steps.numpy())

    def scorer(self, queries: Float[Tensor, "queries width"]) -> Scorer:
        """Looks sums up for few queries; decodes the rows for many, whose tables would be larger than the rows."""
        steps = self._in_steps(queries)
        if 4 * WORDS * steps.shape[0] * steps.shape[1] > _TABLE_BYTES:
            return self._decoding(steps.flatten(1))
        return self._looking_up(steps)

    def _decoding(self, queries: Float[Tensor, "queries slots"]) -> Scorer:
        at_once = max(1, _DECODED_BYTES // (4 * queries.shape[1]))

        def score(codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows queries"]:
            parts = torch.from_numpy(windows(codes)).split(at_once)
            return torch.cat([functional.embedding(part, self._book).flatten(1) @ queries.T for part in parts])

        return score

    def _looking_up(self, queries: Float[Tensor, "queries steps longest"]) -> Scorer:
        """<q, s> is a sum over steps of <the query's columns, the step's word>: 4,096 products a step, made once."""
        # Of plain strides: on any others embedding_bag is a hundred times slower.
        tables = torch.matmul(self._book, queries.permute(1, 2, 0)).contiguous()

        def score(codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows queries"]:
            named = windows(codes)
            found = torch.zeros(len(codes), queries.shape[0])
            for first in range(0, len(tables), _STEPS_AT_ONCE):
                table = tables[first : first + _STEPS_AT_ONCE]
                places = named[:, first : first + len(table)] + np.arange(len(table), dtype=np.int32) * WORDS
                found += functional.embedding_bag(torch.from_numpy(places), table.flatten(0, 1), mode="sum")
            return found

        return score


def _advance(
    metrics: Float[Tensor, "rows states"],
    products: Float[Tensor, "rows half_states choices"],
    half_squares: Float[Tensor, "half_states choices"],
    after: Float[Tensor, "rows states"],
) -> None:
    """One step of Viterbi's search, for a state whose oldest bit is 0 and its twin at once: their words are opposite,
    and max(a + p, b - p) = (a + b) / 2 + |p + (a - b) / 2|. Overwrites `products`."""
    rows = len(metrics)
    zero, one = metrics[:, : STATES // 2], metrics[:, STATES // 2 :]
    products += ((zero - one) / 2)[:, :, None]
    products.abs_()
    products -= half_squares
    products += ((zero + one) / 2)[:, :, None]
    torch.amax(products.view(rows, CHOICES // 2, _OLDEST, CHOICES), 1, out=after.view(rows, _OLDEST, CHOICES))


def windows(codes: UInt8[np.ndarray, "rows bytes"]) -> Int32[np.ndarray, "rows steps"]:
    """The number of each step's word: its four bits behind the eight before them."""
    named = np.empty((len(codes), codes.shape[1], STEPS_IN_BYTE), dtype=np.int32)
    here = codes.astype(np.int32)
    named[:, 0, 0] = here[:, 0] >> 4
    named[:, 1:, 0] = (here[:, :-1] << 4) | (here[:, 1:] >> 4)
    named[:, :, 1] = here
    named[:, 1:, 1] |= (here[:, :-1] & 15) << 8
    return named.reshape(len(codes), -1)
