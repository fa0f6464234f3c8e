"""Rows of many shards as one sequence, read when they are asked for: blocks in order, or any rows at once.

Rows are read into arrays, not mapped into memory: a row that is looked at once costs a fault for each of its pages and
their neighbours, which takes three times as long as reading it, and what was looked at would stay in the process.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Int64

from headwater_indexer.compiling import has_numba
from headwater_indexer.store.files import OpenFiles
from headwater_indexer.store.shards import Place, ShardStore

FIRST = 8  # rows, from which it is seen where they come from
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
        self._descriptors = np.array([self._files[number] for number in range(len(self._places))], np.int32)
        self._offsets = np.array([place.offset for place in self._places], np.int64)

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
        wanted, found = ordinals[order], np.empty((len(ordinals), self._width), self._dtype)
        shards = np.searchsorted(self._starts, wanted, side="right") - 1
        offsets = self._offsets[shards] + (wanted - self._starts[shards]) * self._row_bytes
        into, read = found.view(np.uint8), _reader()
        began = time.perf_counter()
        for part in (slice(0, FIRST), slice(FIRST, None)):
            if part.start and len(into) > FIRST and time.perf_counter() - began > COLD * FIRST:
                self._expect(shards[part], offsets[part])  # the disk reads all of them at once
            if read(self._descriptors[shards[part]], offsets[part], into[part]) < len(into[part]):
                raise _cut_short()
        if (np.diff(order) == 1).all():
            return found
        turned = np.empty_like(found)
        turned[order] = found
        return turned

    def _expect(self, shards: Int64[np.ndarray, " rows"], offsets: Int64[np.ndarray, " rows"]) -> None:
        """Tells the system which rows are read next, where it can be told."""
        if hasattr(os, "posix_fadvise"):
            for file, offset in zip(self._descriptors[shards].tolist(), offsets.tolist(), strict=True):
                os.posix_fadvise(file, offset, self._row_bytes, os.POSIX_FADV_WILLNEED)


@cache
def _reader() -> Callable[[Any, Any, Any], int]:
    if not has_numba():
        return _read_one_by_one
    from headwater_indexer.store.reading_kernel import read

    return read  # type: ignore[no-any-return]


def _read_one_by_one(files: Any, offsets: Any, into: Any) -> int:
    """As the kernel."""
    size, bytes_of, whole = into.shape[1], into.reshape(-1).data, 0
    for row, (file, offset) in enumerate(zip(files.tolist(), offsets.tolist(), strict=True)):
        # A view that lives as long as its read: a list of them would call the garbage collector.
        whole += os.preadv(file, (bytes_of[row * size : (row + 1) * size],), offset) == size
    return whole


def _fill(block: np.ndarray, file: int, offset: int) -> None:
    """All of the block, in as many reads as it takes."""
    left = block.data.cast("B")
    while len(left):
        if not (count := os.preadv(file, (left,), offset)):
            raise _cut_short()
        left, offset = left[count:], offset + count


def _cut_short() -> OSError:
    return OSError("a shard of rows was cut while the index was open: copy it again")
