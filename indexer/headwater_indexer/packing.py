"""Windows packed end to end in one row, so that no layer works on padding; only attention sees them apart.

Windows of nearly one length lie side by side, and each such run is what attention takes as one block: padded on the
right, where a causal attention never looks, and by a quarter at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

SHORTEST_SHARE = 0.75  # of a run's longest window that its shortest has at least


@dataclass(frozen=True, kw_only=True)
class Run:
    """Neighbouring windows of a pack, of nearly one length."""

    tokens: slice  # of the pack
    windows: slice
    longest: int
    slots: Int64[Tensor, " tokens"] | None  # where each token lies in the padded block; None where nothing is padded

    @property
    def shape(self) -> tuple[int, int]:
        """[windows, longest] of the block."""
        return self.windows.stop - self.windows.start, self.longest

    def block(self, packed: Tensor) -> Tensor:
        """[tokens of the pack, ...] to this run's [windows, longest, ...], zeros for padding."""
        part = packed[self.tokens]
        if self.slots is not None:
            windows, longest = self.shape
            part = part.new_zeros(windows * longest, *part.shape[1:]).index_copy(0, self.slots, part)
        return part.view(*self.shape, *part.shape[1:]) if part.is_contiguous() else part.unflatten(0, self.shape)

    def unblock(self, block: Tensor) -> Tensor:
        """The inverse: [windows, longest, ...] to [tokens of the run, ...]."""
        flat: Tensor = block.flatten(0, 1)
        return flat if self.slots is None else flat[self.slots]


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where each window lies in a row that holds them all."""

    position_ids: Int64[Tensor, "1 tokens"]
    owners: Int64[Tensor, " tokens"]  # the window of each token
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Packing":
        """The packing of windows of these lengths, one after the other, the longest first."""
        counts = torch.tensor(lengths)
        positions = torch.cat([torch.arange(length) for length in lengths])
        return cls(
            position_ids=positions[None],
            owners=torch.arange(len(lengths)).repeat_interleave(counts),
            runs=tuple(_runs(lengths)),
        )

    def to(self, device: torch.device) -> "Packing":
        runs = tuple(
            run if run.slots is None else replace(run, slots=run.slots.to(device, non_blocking=True))
            for run in self.runs
        )
        return Packing(position_ids=self.position_ids.to(device), owners=self.owners.to(device), runs=runs)


def _runs(lengths: Sequence[int]) -> list[Run]:
    runs: list[Run] = []
    start = tokens = 0
    while start < len(lengths):
        longest = lengths[start]
        stop = start + 1
        while stop < len(lengths) and lengths[stop] >= SHORTEST_SHARE * longest:
            stop += 1
        own = lengths[start:stop]
        runs.append(
            Run(
                tokens=slice(tokens, tokens + sum(own)),
                windows=slice(start, stop),
                longest=longest,
                slots=None if own[-1] == longest else _slots(own, longest),
            )
        )
        start, tokens = stop, tokens + sum(own)
    return runs


def _slots(lengths: Sequence[int], longest: int) -> Int64[Tensor, " tokens"]:
    return torch.cat([torch.arange(length) + row * longest for row, length in enumerate(lengths)])
