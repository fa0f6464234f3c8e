"""Writing and reading rows beside plain files of the same bytes, the system's cache emptied of them before reading."""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore

ROW_BYTES = 3_080
SHARD_BYTES = 32 << 20
ROUNDS = 6


def measure_store(folder: Path, *, megabytes: int) -> dict[str, Any]:
    """Speeds over those of plain writes, each flushed to the disk, and of plain reads; medians over rounds, every other
    of which goes backward: a disk may take the first bytes sooner than the next ones."""
    count = SHARD_BYTES // ROW_BYTES
    rows = np.random.default_rng(0).integers(0, 256, (count, ROW_BYTES), dtype=np.uint8)
    shards = max(2, (megabytes << 20) // rows.nbytes)
    taken: dict[str, list[float]] = {}

    def note(name: str, work: Callable[[], Any]) -> None:
        began = time.perf_counter()
        work()
        taken.setdefault(name, []).append(time.perf_counter() - began)

    for turn in range(ROUNDS):
        for part in ("store", "plain"):
            shutil.rmtree(folder / part, ignore_errors=True)
            (folder / part).mkdir()
        store = ShardStore(folder / "store", width=ROW_BYTES, dtype="uint8")
        direction = -1 if turn % 2 else 1
        writes = (
            ("plain write", partial(write_plain, folder / "plain", rows, shards)),
            ("write", partial(write, store, rows, shards)),
        )
        for name, work in writes[::direction]:
            note(name, work)
        forget(folder)
        reads = ("plain read", partial(read_plain, folder / "plain")), ("read", partial(read, store))
        for name, work in reads[::direction]:
            note(name, work)
    for part in ("store", "plain"):
        shutil.rmtree(folder / part)
    size = shards * rows.nbytes
    return {
        "ratios": {
            "writing over plain write": ratio(taken, "plain write", "write"),
            "reading over plain read": ratio(taken, "plain read", "read"),
        },
        "found": {
            "bytes": size,
            **{f"{name}, MB/s": round(size / 1e6 / statistics.median(s)) for name, s in taken.items()},
        },
    }


def ratio(taken: dict[str, list[float]], plain: str, ours: str) -> float:
    return statistics.median(a / b for a, b in zip(taken[plain], taken[ours], strict=True))


def write_plain(folder: Path, rows: np.ndarray, shards: int) -> None:
    for number in range(shards):
        with (folder / f"{number}").open("wb") as file:
            file.write(rows.data)
            file.flush()
            os.fsync(file.fileno())


def write(store: ShardStore, rows: np.ndarray, shards: int) -> None:
    for _ in range(shards):
        store.append(rows)


def read_plain(folder: Path) -> None:
    """In blocks as large as the store's, each looked at as a whole."""
    block = np.empty((2_048, ROW_BYTES), dtype=np.uint8)
    for path in sorted(folder.iterdir()):
        with path.open("rb", buffering=0) as file:
            while file.readinto(block.data.cast("B")):
                block.max()


def read(store: ShardStore) -> None:
    for block in RowReader.open(store).blocks(2_048):
        block.max()


def forget(folder: Path) -> None:
    """Has the system's cache let go of the files, which are on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
