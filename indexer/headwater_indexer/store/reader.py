"""Rows of many shards as one sequence, read when they are asked for: blocks in order, or any rows at once.

Rows are read into arrays, not mapped into memory: a row that is looked at once costs a fault for each of its pages and
their neighbours, which takes three times as long as reading it, and what was looked at would stay in the process.
"""

import os
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int64

from headwater_indexer.store.files import OpenFiles
from headwater_indexer.store.shards import Place, ShardStore

COLD = 50e-6  # seconds a row, which memory never takes and a disk always


class RowReader:
    """Any number of threads may read at once. Its files stay open as long as it lives."""

    def __init__(self, places: Sequence[Place], *, width: int, dtype: str) -> None:
        """Raises StorageError where the process may not open so many files."""
        self._places = [place for place in places if place.rows]
        self._starts = np.cumsum([0, *(place.rows for place in self._places)])
        self._width = width
        self._dtype = np.dtype(dtype)
        self._files = OpenFiles([place.path for place in self._places])

    @classmethod
    def open(cls, store: ShardStore, shards: range | None = None) -> "RowReader":
        """All shards of the store, or some. Raises IndexDamaged for one that is missing or not as the store's manifest
        says, and StorageError."""
        every = store.manifest.shards
        chosen = every if shards is None else [every[number] for number in shards]
        places = [store.place(shard) for shard in chosen]
        return cls(places, width=store.manifest.width, dtype=store.manifest.dtype)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def _row_bytes(self) -> int:
        return self._width * self._dtype.itemsize

    def blocks(self, rows: int) -> Iterator[Any]:
        """All rows in order, at most so many at a time; a block is to be used before the next one is asked for."""
        held = np.empty((min(rows, len(self)), self._width), dtype=self._dtype)
        for number, place in enumerate(self._places):
            for start in range(0, place.rows, rows):
                block = held[: min(rows, place.rows - start)]
                _fill(block, self._files[number], place.offset + start * self._row_bytes)
                yield block

    def gather(self, ordinals: Int64[np.ndarray, " ordinals"]) -> Any:
        """These rows, in the order asked for."""
        order = np.argsort(ordinals, kind="stable")
        found = np.empty((len(ordinals), self._width), self._dtype)
        parts = self._parts(ordinals[order], found)
        began = time.perf_counter()
        for number, (file, offsets, rows) in enumerate(parts):
            if number == 1 and time.perf_counter() - began > COLD * len(parts[0][1]):
                for later, wanted, _ in parts[1:]:
                    self._expect(later, wanted)  # the disk reads all of them at once
            for offset, row in zip(offsets, rows, strict=True):
                if os.preadv(file, (row,), offset) != self._row_bytes:
                    raise _cut_short()
        if (np.diff(order) == 1).all():
            return found
        turned = np.empty_like(found)
        turned[order] = found
        return turned

    def _expect(self, file: int, offsets: Sequence[int]) -> None:
        """Tells the system which rows are read next, where it can be told."""
        if hasattr(os, "posix_fadvise"):
            for offset in offsets:
                os.posix_fadvise(file, offset, self._row_bytes, os.POSIX_FADV_WILLNEED)

    def _parts(self, wanted: Int64[np.ndarray, " wanted"], found: Any) -> list[tuple[int, list[int], list[Any]]]:
        """Of ascending rows: for each shard its file, where its rows stand in that, and what they are read into."""
        size, bytes_of = self._row_bytes, memoryview(found).cast("B") if len(found) else memoryview(b"")
        into = [bytes_of[start : start + size] for start in range(0, len(bytes_of), size)]
        cuts = np.searchsorted(wanted, self._starts)
        return [
            (self._files[number], (place.offset + (wanted[a:b] - first) * size).tolist(), into[a:b])
            for number, (place, first, (a, b)) in enumerate(
                zip(self._places, self._starts[:-1], pairwise(cuts), strict=True)
            )
            if a < b
        ]


def _fill(block: np.ndarray, file: int, offset: int) -> None:
    """All of the block, in as many reads as it takes."""
    left = block.data.cast("B")
    while len(left):
        if not (count := os.preadv(file, (left,), offset)):
            raise _cut_short()
        left, offset = left[count:], offset + count


def _cut_short() -> OSError:
    return OSError("a shard of rows was cut while the index was open: copy it again")
