"""Windows into padded batches: sorted by length, cut by a budget of tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from headwater_indexer.windows import Window


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows padded on the right to one length; `order[i]` is the place in the input of row i."""

    input_ids: Int64[Tensor, "batch time"]
    attention_mask: Int64[Tensor, "batch time"]  # 1 for tokens, 0 for padding
    targets: Bool[Tensor, "batch time"]  # the tokens whose loss counts
    order: list[int]

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            targets=self.targets.to(device),
            order=self.order,
        )


def batches(windows: Sequence[Window], budget: int) -> Iterator[Batch]:
    """Batches of at most `budget` tokens, padding included, and at least one window; the longest come first, so that
    a budget too large for the memory shows at once. The cut depends on these windows alone: the same every time."""
    order = sorted(range(len(windows)), key=lambda i: (-len(windows[i].input_ids), i))
    start = 0
    while start < len(order):
        longest = len(windows[order[start]].input_ids)
        size = max(1, budget // max(1, longest))
        yield _pad(windows, order[start : start + size], longest)
        start += size


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
        targets[row, window.first_target : tokens] = True
    return Batch(input_ids=input_ids, attention_mask=attention_mask, targets=targets, order=order)
