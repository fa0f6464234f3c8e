"""A new build takes the place of the index in whose folder it was made, all at once or after a kill.

    next/                  the new build, while the index is served as it was
    next/replacing.json    {"old": [...], "new": [...]}: what goes and what comes, by name, once it is whole

The change happens when the folder's own manifest is removed: from then on the new build is the index, and whoever
reads or changes the folder next moves what is not moved yet.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from headwater_indexer.durable import flush, replacing

MANIFEST = "manifest.json"
NEXT = "next"
JOURNAL = "replacing.json"


def succeed(folder: Path, old: Sequence[str]) -> None:
    """Replaces the index in the folder, whose files and folders have these names, by the one beneath."""
    beneath = folder / NEXT
    new = [made.name for made in beneath.iterdir() if made.name not in (MANIFEST, JOURNAL)]
    with replacing(beneath / JOURNAL) as aside:
        aside.write_text(json.dumps({"old": list(old), "new": new}))
    (folder / MANIFEST).unlink(missing_ok=True)
    flush(folder)
    _move(folder)


def complete(folder: Path, old: Sequence[str]) -> bool:
    """Ends what a kill left of a new build, and tells whether that was whole. As `succeed`, for whoever has locked the
    folder."""
    whole = (folder / NEXT / MANIFEST).exists()
    if _interrupted(folder):
        _move(folder)
    elif whole:
        succeed(folder, old)
    elif (folder / NEXT / JOURNAL).exists():
        shutil.rmtree(folder / NEXT)
    return whole


def settle(folder: Path) -> bool:
    """For whoever reads the folder: ends what a kill left, or waits for who is at it; whether there was anything."""
    if not _interrupted(folder):
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _interrupted(folder):
            _move(folder)
    finally:
        os.close(descriptor)
    return True


def _interrupted(folder: Path) -> bool:
    """Whether the new build is the index, and not all of it is where it belongs."""
    beneath = folder / NEXT
    return (beneath / MANIFEST).exists() and (beneath / JOURNAL).exists() and not (folder / MANIFEST).exists()


def _move(folder: Path) -> None:
    beneath = folder / NEXT
    names = json.loads((beneath / JOURNAL).read_text())
    for name in names["old"]:
        if name not in names["new"]:
            _remove(folder / name)
    for name in names["new"]:
        if (beneath / name).exists():
            _remove(folder / name)
            (beneath / name).replace(folder / name)
    flush(folder)
    (beneath / MANIFEST).replace(folder / MANIFEST)
    flush(folder)
    shutil.rmtree(beneath)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
