"""Changes of an index in a child process that is killed, and what the folder holds afterwards.

The child is a fork, so that a cycle takes a fraction of a second: everything is imported before.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headwater_indexer.catalogue import open_catalogue
from headwater_indexer.errors import HeadwaterError
from headwater_indexer.index import verify_index
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace

Change = Callable[[], object]
Contents = dict[str, tuple[str, bytes]]  # by a document's id: its text, and what is stored of its row
STEPS = ("fsync", "replace", "unlink", "rmdir", "mkdir")  # what a change does to the disk, of `os`


def run(change: Change, *, kill_after: float | None = None, kill_at: int | None = None) -> bool:
    """Runs the change in a child; whether it ended by itself.

    It is killed after so many seconds, or before its step number `kill_at` on the disk. Raises RuntimeError when the
    change fails.
    """
    child = os.fork()
    if child == 0:
        _in_the_child(change, kill_at)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        raise RuntimeError(f"the change ended with {os.WEXITSTATUS(status)}")
    return True


def _in_the_child(change: Change, kill_at: int | None) -> None:
    try:
        if kill_at is not None:
            _die_at(kill_at)
        change()
        os._exit(0)
    except HeadwaterError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(error.exit_code)
    except BaseException as error:  # noqa: BLE001  the child must end here
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(70)


def _die_at(step: int) -> None:
    """Counts what this process does to the disk, and kills it before the step of this number, from 1."""
    done = Counter[str]()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **named: Any) -> Any:
            done["steps"] += 1
            if done["steps"] == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*words, **named)

        return counted

    for name in STEPS:
        setattr(os, name, counting(getattr(os, name)))


def contents(folder: Path) -> tuple[int, Contents, int]:
    """The number of the version, its documents, and how many of them are there twice. Raises IndexDamaged."""
    manifest = verify_index(folder)
    work = Workspace(folder)
    parts = [work.segment(segment.folder) for segment in manifest.segments]
    records = np.concatenate([shard for part in parts for shard in ShardStore.open(part.rows)])
    with open_catalogue(folder, manifest) as there:
        documents, numbering = list(there), there.numbering
    rows = records[numbering.stored(np.arange(len(numbering)))]
    found = {document.id: (document.text, row.tobytes()) for document, row in zip(documents, rows, strict=True)}
    return manifest.number, found, len(documents) - len(found)


@dataclass
class Tally:
    """What was found after kills."""

    kills: int = 0
    ended_before: int = 0  # the kill came too late
    old: int = 0
    new: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    refused: list[str] = field(default_factory=list)  # folders that could not be read
    shards_captured: int = 0
    shards_needed: int = 0

    def compare(self, found: Contents, twice: int, expected: Contents) -> None:
        self.lost += len(expected.keys() - found.keys())
        self.wrong += sum(1 for name, one in found.items() if expected.get(name) != one)
        self.duplicated += twice

    def check(self, folder: Path, old: tuple[int, Contents] | None, new: tuple[int, Contents]) -> None:
        """The folder must hold the old version or the new one, whole; no index at all where there was none."""
        if old is None and not (folder / "manifest.json").exists():
            self.old += 1
            return
        try:
            number, found, twice = contents(folder)
        except HeadwaterError as error:
            self.refused.append(str(error))
            return
        if old is not None and number == old[0]:
            self.old += 1
            self.compare(found, twice, old[1])
        else:
            self.new += 1
            self.compare(found, twice, new[1])

    def check_end(self, folder: Path, new: tuple[int, Contents]) -> None:
        """The folder must hold the new version."""
        number, found, twice = contents(folder)
        if number != new[0]:
            self.refused.append(f"version {number} where {new[0]} was made")
        self.compare(found, twice, new[1])

    @property
    def faults(self) -> list[str]:
        """In words, what should not be."""
        counted = {name: getattr(self, name) for name in ("lost", "duplicated", "wrong")}
        found = [f"{count} documents {name}" for name, count in counted.items() if count]
        if not self.shards_needed <= self.shards_captured <= self.shards_needed + self.kills:
            found.append(f"{self.shards_captured} shards captured for {self.shards_needed} and {self.kills} kills")
        return [*found, *(f"refused: {message}" for message in self.refused[:3])]


def moment(draw: random.Random, seconds: float) -> float:
    """A random one of a change that takes about so long."""
    return draw.uniform(0, 1.05 * seconds)
