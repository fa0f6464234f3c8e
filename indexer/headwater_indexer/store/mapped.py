"""Rows of many shards as one sequence, mapped into memory but not kept there: blocks in order, or any rows at once.

Pages that were looked at are let go again, so that what a process holds does not grow with what it has read; the
operating system's cache keeps them as long as it has room.
"""

import mmap
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int64

from headwater_indexer.store.shards import ShardStore

COLD = 50e-6  # seconds a row, which memory never takes and a disk always
HELD_BYTES = 16 << 20  # of rows gathered, after which their pages are let go


class MappedRows:
    """Any number of threads may read at once."""

    def __init__(self, shards: Sequence[Any]) -> None:
        """`shards` are arrays [rows, width], over files or in memory."""
        self._shards = [shard for shard in shards if len(shard)]
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._width = shards[0].shape[1] if len(shards) else 0
        self._read_since = 0  # bytes of rows, since pages were let go

    @classmethod
    def open(cls, store: ShardStore) -> "MappedRows":
        """Raises IndexDamaged for a shard that is missing or not as the store's manifest says."""
        return cls([store.mapped(shard) for shard in store.manifest.shards])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def blocks(self, rows: int) -> Iterator[Any]:
        """All rows in order, at most so many at a time; a block is to be used before the next one is asked for."""
        for shard in self._shards:
            _advise(shard, mmap.MADV_SEQUENTIAL)
            for start in range(0, len(shard), rows):
                yield shard[start : start + rows]
            _advise(shard, mmap.MADV_DONTNEED)

    def gather(self, ordinals: Int64[np.ndarray, " ordinals"]) -> Any:
        """A copy of these rows, in the order asked for."""
        if not len(ordinals):
            return np.empty((0, self._width))
        order = np.argsort(ordinals, kind="stable")
        wanted = ordinals[order]
        found = np.empty((len(ordinals), self._shards[0].shape[1]), self._shards[0].dtype)
        cuts = np.searchsorted(wanted, self._starts)
        every = zip(self._shards, self._starts[:-1], pairwise(cuts), strict=True)
        parts = [(shard, wanted[a:b] - first, order[a:b]) for shard, first, (a, b) in every if a < b]
        for shard, _, _ in parts:
            _advise(shard, mmap.MADV_RANDOM)
        began = time.perf_counter()
        for number, (shard, here, places) in enumerate(parts):
            if number == 1 and time.perf_counter() - began > COLD * len(parts[0][1]):
                for later, rows, _ in parts[1:]:  # the disk reads all of them at once
                    _advise_rows(later, rows)
            found[places] = shard[here]
        self._let_go(found.nbytes)
        return found

    def _let_go(self, read: int) -> None:
        """Of pages, once they have become many."""
        self._read_since += read
        if self._read_since > HELD_BYTES:
            self._read_since = 0
            for shard in self._shards:
                _advise(shard, mmap.MADV_DONTNEED)


def _advise(shard: Any, advice: int) -> None:
    if (mapped := _mapping(shard)) is not None:
        mapped.madvise(advice)


def _mapping(shard: Any) -> mmap.mmap | None:
    """None for an array that is not over a file."""
    return getattr(shard, "_mmap", None)


def _advise_rows(shard: Any, places: Int64[np.ndarray, " places"]) -> None:
    """Has these rows read, and nothing around them."""
    if (mapped := _mapping(shard)) is None:
        return
    begin = shard.offset % mmap.ALLOCATIONGRANULARITY
    row = shard.strides[0]
    for place in places.tolist():
        start = (begin + place * row) // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, start, begin + (place + 1) * row - start)
