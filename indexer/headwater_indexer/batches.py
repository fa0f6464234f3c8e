"""Windows into batches, sorted by length and cut by a budget of tokens: padded, or packed without padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from headwater_indexer.packing import Packing
from headwater_indexer.windows import Window


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows, each in a row of its own and padded on the right, or (with `packing`) one after the other in one row.

    `order[i]` is the place in the input of window i.
    """

    input_ids: Int64[Tensor, "batch time"]
    attention_mask: Int64[Tensor, "batch time"]  # 1 for tokens, 0 for padding
    targets: Bool[Tensor, "batch time"]  # the tokens whose loss counts
    order: list[int]
    packing: Packing | None = None

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            targets=self.targets.to(device),
            order=self.order,
            packing=None if self.packing is None else self.packing.to(device),
        )

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the model is called with."""
        if self.packing is not None:
            return {"input_ids": self.input_ids, "position_ids": self.packing.position_ids}
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}

    @property
    def owners(self) -> Int64[Tensor, " tokens"]:
        """The window, as a place in `order`, of each token of the flattened batch."""
        if self.packing is not None:
            return self.packing.owners
        rows, time = self.input_ids.shape
        return torch.arange(rows, device=self.input_ids.device).repeat_interleave(time)

    def blocks(self, *tensors: Tensor) -> Iterator[tuple[slice, list[Tensor]]]:
        """Tensors [batch, time, ...] window by window: slices of `order`, and those windows' [windows, time, ...]."""
        if self.packing is None:
            yield slice(0, len(self.order)), list(tensors)
        else:
            for run in self.packing.runs:
                yield run.windows, [run.block(tensor[0]) for tensor in tensors]


def batches(windows: Sequence[Window], budget: int) -> Iterator[Batch]:
    """Padded batches of at most `budget` tokens, padding included, and at least one window; the longest come first, so
    that a budget too large for the memory shows at once. The cut depends on these windows alone: the same every time.
    """
    order = _longest_first(windows)
    start = 0
    while start < len(order):
        longest = len(windows[order[start]].input_ids)
        size = max(1, budget // max(1, longest))
        yield _pad(windows, order[start : start + size], longest)
        start += size


def packs(windows: Sequence[Window], budget: int) -> Iterator[Batch]:
    """Packed batches of at most `budget` tokens and at least one window, in the same order."""
    order: list[int] = []
    tokens = 0
    for place in _longest_first(windows):
        length = len(windows[place].input_ids)
        if order and tokens + length > budget:
            yield _pack(windows, order)
            order, tokens = [], 0
        order.append(place)
        tokens += length
    if order:
        yield _pack(windows, order)


def _longest_first(windows: Sequence[Window]) -> list[int]:
    return sorted(range(len(windows)), key=lambda i: (-len(windows[i].input_ids), i))


def _pad(windows: Sequence[Window], order: list[int], length: int) -> Batch:
    shape = (len(order), length)
    input_ids = torch.zeros(shape, dtype=torch.int64)  # any id serves as padding: nothing attends to it
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    targets = torch.zeros(shape, dtype=torch.bool)
    for row, place in enumerate(order):
        window = windows[place]
        tokens = len(window.input_ids)
        input_ids[row, :tokens] = torch.from_numpy(window.input_ids.astype("int64"))
        attention_mask[row, :tokens] = 1
        targets[row, :tokens] = torch.from_numpy(window.is_target)
    return Batch(input_ids=input_ids, attention_mask=attention_mask, targets=targets, order=order)


def _pack(windows: Sequence[Window], order: list[int]) -> Batch:
    """The same tokens and targets as padded, with the padding taken out."""
    lengths = [len(windows[place].input_ids) for place in order]
    padded = _pad(windows, order, max(lengths))
    kept = padded.attention_mask.bool()
    return Batch(
        input_ids=padded.input_ids[kept][None],
        attention_mask=padded.attention_mask[kept][None],
        targets=padded.targets[kept][None],
        order=order,
        packing=Packing.of(lengths),
    )
