"""Numbers for the documents of all segments: stored ones run over all rows, given ones leave out what was removed.

Whoever asks an index knows given ordinals alone, so that a removed document has no number by which it could be found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64
from safetensors.numpy import load, save

from headwater_indexer.durable import replacing
from headwater_indexer.errors import IndexDamaged
from headwater_indexer.tensors import reading_tensors

Ordinals = Int64[np.ndarray, " ordinals"]


@dataclass(frozen=True, eq=False)
class Numbering:
    """How many documents each segment stores, and which of all of them were removed: rising stored ordinals."""

    counts: tuple[int, ...]
    removed: Ordinals

    def __len__(self) -> int:
        """How many documents are left."""
        return sum(self.counts) - len(self.removed)

    @property
    def plain(self) -> bool:
        """Whether stored and given ordinals are the same, in one segment."""
        return len(self.counts) == 1 and not len(self.removed)

    @cached_property
    def firsts(self) -> Ordinals:
        """The stored ordinal that each segment begins with, and one past the last."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @cached_property
    def _left_before(self) -> Ordinals:
        """How many documents are left before each that was removed."""
        return self.removed - np.arange(len(self.removed))

    def stored(self, given: Ordinals) -> Ordinals:
        """Of documents that are left, as their numbers are given."""
        return np.asarray(given + np.searchsorted(self._left_before, given, side="right"))

    def given(self, stored: Ordinals) -> Ordinals:
        """Of documents that are left, as they are stored."""
        return np.asarray(stored - np.searchsorted(self.removed, stored))

    def left(self, stored: Ordinals) -> Bool[np.ndarray, " ordinals"]:
        """Whether each document is left."""
        return np.asarray(np.isin(stored, self.removed, invert=True))

    def removed_from(self, segment: int) -> Ordinals:
        """The removed documents of a segment, counted from its first."""
        begin, end = np.searchsorted(self.removed, self.firsts[segment : segment + 2])
        return np.asarray(self.removed[begin:end] - self.firsts[segment])

    def by_segment(self, stored: Ordinals) -> Iterator[tuple[int, Int64[np.ndarray, " places"], Ordinals]]:
        """For each segment that has any: its number, their places in `stored`, and they counted from its first."""
        owners = np.searchsorted(self.firsts, stored, side="right") - 1
        for segment in np.unique(owners):
            places = np.flatnonzero(owners == segment)
            yield int(segment), places, stored[places] - self.firsts[segment]


def save_removed(path: Path, removed: Ordinals) -> None:
    """Writes rising stored ordinals."""
    with replacing(path) as aside:
        aside.write_bytes(save({"ordinals": np.asarray(removed, dtype=np.int64)}))


def load_removed(path: Path, counts: Sequence[int]) -> Ordinals:
    """Raises IndexDamaged for a file that does not hold rising ordinals of an index with so many documents."""
    with reading_tensors(path):
        removed: Ordinals = load(path.read_bytes())["ordinals"]
    if removed.ndim != 1 or removed.dtype != np.int64:
        raise IndexDamaged(f"{path} does not hold ordinals: copy the index again")
    if len(removed) and (removed[0] < 0 or removed[-1] >= sum(counts) or (np.diff(removed) <= 0).any()):
        raise IndexDamaged(f"{path} holds ordinals that the index has no documents for: copy the index again")
    return removed
