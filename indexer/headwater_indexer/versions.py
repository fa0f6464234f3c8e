"""Versions of an index: each a manifest, of which manifest.json is the current one, and some older ones are kept.

    manifest.json            the current version
    versions/0001.json       the manifests of older ones, by number
    segments/0002/           files of the documents that version 2 added
    removed/0003.safetensors the documents that version 3 knows as removed

A change writes its files first, then the manifest; what no kept version names is deleted last. A kill at any moment
leaves the version before or the one after, and at most files that the next change deletes.
"""

import shutil
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headwater_indexer.durable import flush, make_folder, replacing, storage_errors
from headwater_indexer.errors import IndexDamaged, UsageError
from headwater_indexer.manifest import MANIFEST, Change, Manifest
from headwater_indexer.numbering import load_removed
from headwater_indexer.workspace import FIRST, JOURNAL, REMOVED, SEGMENTS, VERSIONS, Workspace, changing

KEPT = 3  # older versions


def succeeding(manifest: Manifest, change: Change, **altered: Any) -> Manifest:
    """The version after this one, with these parts altered."""
    said = {"number": manifest.number + 1, "change": change, "created": int(time.time())}
    return manifest.model_copy(update=said | {"headwater_version": version("headwater")} | altered)


def switch(folder: Path, to: Manifest, *, keep: int = KEPT) -> Manifest:
    """Makes a version the current one, whose files are all on the disk, and deletes those that are too old."""
    current = folder / MANIFEST
    with replacing(make_folder(folder / VERSIONS) / f"{to.number - 1:04d}.json") as aside:
        aside.write_bytes(current.read_bytes())
    written = to.write(current)
    clean(folder, keep=keep)
    return written


def history(folder: Path) -> list[Manifest]:
    """All versions that are kept, the oldest first and the current one last. Raises IndexDamaged."""
    current = Manifest.read(folder)
    older = [path for path in sorted((folder / VERSIONS).glob("[0-9]*.json")) if int(path.stem) < current.number]
    return [*(_of_number(path, int(path.stem)) for path in older), current]


def _of_number(path: Path, number: int) -> Manifest:
    manifest = Manifest.read_file(path)
    if manifest.number != number:
        raise IndexDamaged(f"{path} is the manifest of version {manifest.number}: copy the index again, or delete it")
    return manifest


def roll_back(folder: Path, to: int | None, *, restore_removed: bool = False, keep: int = KEPT) -> Manifest:
    """Makes an older version, or the one before, current again: under a new number.

    Raises UsageError for a version that is not kept, and for one that knows documents that were removed since as
    findable, unless `restore_removed` says that this is meant.
    """
    with changing(folder), storage_errors(folder):
        return _rolled_back(folder, to, restore_removed=restore_removed, keep=keep)


def _rolled_back(folder: Path, to: int | None, *, restore_removed: bool, keep: int) -> Manifest:
    versions = {manifest.number: manifest for manifest in history(folder)}
    current = versions.pop(max(versions))
    number = current.number - 1 if to is None else to
    if number not in versions:
        kept = ", ".join(map(str, versions)) or "none"
        raise UsageError(f"{folder} keeps no version {number} to go back to (kept: {kept})")
    target = versions[number]
    if not restore_removed and (lost := _brought_back(folder, current, target)):
        raise UsageError(
            f"version {number} of {folder} would bring back documents that were removed since ({lost}): add "
            "--restore-removed if that is meant"
        )
    parts = {name: getattr(target, name) for name in ("shared", "segments", "removed")}
    return switch(folder, succeeding(current, "rollback", **parts), keep=keep)


def _brought_back(folder: Path, current: Manifest, target: Manifest) -> int:
    """How many documents of the target's segments are removed in the current version, and not in the target."""
    return len(_removed_rows(folder, current, target) - _removed_rows(folder, target, target))


def _removed_rows(folder: Path, manifest: Manifest, among: Manifest) -> set[tuple[str, int]]:
    """The removed documents of a version, by the segment's folder and the place in it, in the segments of another."""
    if manifest.removed is None:
        return set()
    stored = load_removed(folder / manifest.removed.file.path, [segment.documents for segment in manifest.segments])
    known, found, first = {segment.folder for segment in among.segments}, set(), 0
    for segment in manifest.segments:
        own = stored[(stored >= first) & (stored < first + segment.documents)] - first
        found |= {(segment.folder, int(place)) for place in own} if segment.folder in known else set()
        first += segment.documents
    return found


def clean(folder: Path, *, keep: int) -> None:
    """Deletes older versions but for the last `keep`, and every file that no version names any more."""
    *older, current = history(folder)
    for manifest in older[: max(0, len(older) - keep)]:
        (folder / VERSIONS / f"{manifest.number:04d}.json").unlink()
    _sweep(folder, [*older[max(0, len(older) - keep) :], current])


def _sweep(folder: Path, versions: Sequence[Manifest]) -> None:
    named = {folder / file.path for manifest in versions for file in manifest.files}
    first = Workspace(folder)
    kept = {segment.folder for manifest in versions for segment in manifest.segments}
    for segment in _segment_folders(folder):
        if segment.relative_to(folder).as_posix() not in kept and not (segment / JOURNAL).exists():
            shutil.rmtree(segment)
    if FIRST not in kept:
        for part in (first.rows, first.signs, first.embeddings, first.gradients):
            shutil.rmtree(part, ignore_errors=True)
        _unlink(named, (first.documents, first.full_text, first.search, first.norms))
    _unlink(named, (folder / REMOVED).glob("*"))
    flush(folder)


def _segment_folders(folder: Path) -> list[Path]:
    """On the disk, whether a version names them or not."""
    return sorted(path for path in (folder / SEGMENTS).glob("*") if path.is_dir())


def _unlink(named: set[Path], files: Iterable[Path]) -> None:
    for file in files:
        if file not in named:
            file.unlink(missing_ok=True)


def new_segment_folder(folder: Path, manifest: Manifest) -> Path:
    """One whose number no segment has had."""
    taken = [manifest.number, *(int(path.name) for path in _segment_folders(folder) if path.name.isdecimal())]
    return folder / SEGMENTS / f"{max(taken) + 1:04d}"
