"""Indexes on shared storage: push and pull. Files are named there by what they hold, and the manifest goes last.

    manifest.json        the version that is there, byte for byte that of the index's folder
    files/SHA256         each of its files, once

A file that is there under its name is whole, so that a transfer that was killed goes on where it was, versions share
what they have in common, and whoever reads sees one whole version or the other.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from headwater_indexer.durable import PARTIAL, flush, make_folder, replacing, sha256_of, storage_errors
from headwater_indexer.errors import ConfigurationError, IndexDamaged
from headwater_indexer.index import verify_index
from headwater_indexer.manifest import MANIFEST, File, Manifest
from headwater_indexer.progress import Progress, Silent
from headwater_indexer.storage.remote import Remote
from headwater_indexer.versions import KEPT, clean
from headwater_indexer.workspace import changing

FILES = "files"
JOURNAL = "pull.url"  # in a folder that is being pulled, which holds no index yet
_AT_ONCE = 8  # transfers
_TRIES = 3  # of a pull while the version there is replaced


def push_index(folder: Path, url: str, *, overwrite: bool = False, progress: Progress | None = None) -> Manifest:
    """Puts the current version of an index at the URL, and deletes there what it does not name; returns its manifest.

    Verifies the folder first. The same call after an interruption resumes. Raises IndexDamaged for a folder that is
    not whole, and ConfigurationError where another index is at the URL, unless `overwrite`.
    """
    progress = progress or Silent()
    remote = Remote.at(url)
    with changing(folder):
        manifest = verify_index(folder, progress)
        there = read_manifest(remote)
        if there is not None and there.manifest.shared != manifest.shared and not overwrite:
            raise ConfigurationError(
                f"{remote.url} holds another index: choose another URL, or replace it with --overwrite"
            )
        kept = {name: said["size"] for name, said in remote.files(FILES).items()}
        missing = [file for file in _once(manifest.files) if kept.get(file.sha256) != file.bytes]
        _transfer(missing, lambda file: remote.put(folder / file.path, f"{FILES}/{file.sha256}"), "push", progress)
        remote.put(folder / MANIFEST, MANIFEST)
    named = {file.sha256 for file in manifest.files}
    for name in kept:
        if name not in named:  # also the texts and rows of documents that were removed
            remote.delete(f"{FILES}/{name}")
    return manifest


def pull_index(url: str, folder: Path, *, progress: Progress | None = None) -> Manifest:
    """Makes the folder the version of the index that is at the URL, and returns its manifest.

    The folder is new, or holds an older version, which is replaced at once when all is there. Every file is checked
    against the manifest. The same call after an interruption resumes. Raises IndexDamaged for what is not an index or
    is altered, and ConfigurationError for a folder that holds anything else.
    """
    progress = progress or Silent()
    remote = Remote.at(url)
    with storage_errors(folder):
        make_folder(folder)
        with changing(folder):
            for _ in range(_TRIES):
                version = _wanted(remote)
                manifest = version.manifest
                _check_folder(folder, manifest, remote.url)
                try:
                    pull_files(remote, manifest.files, folder, progress)
                except FileNotFoundError:
                    continue  # another version has taken its place meanwhile
                return _finish(folder, version)
    raise IndexDamaged(f"{remote.url} has not all files that its {MANIFEST} names: push the index again")


def pull_files(remote: Remote, files: Iterable[File], folder: Path, progress: Progress) -> None:
    """Those of the files that are not in the folder. Raises FileNotFoundError for one that is not on the storage."""
    missing = [file for file in files if not _is_there(folder / file.path, file)]
    _transfer(missing, lambda file: _pull_file(remote, file, folder), "pull", progress)


class Version(NamedTuple):
    """A manifest, and the bytes of its file."""

    manifest: Manifest
    text: bytes


def read_manifest(remote: Remote) -> Version | None:
    """Of the version at the URL; None where there is none. Raises IndexDamaged for what is not one."""
    try:
        text = remote.read(MANIFEST)
    except FileNotFoundError:
        return None
    return Version(Manifest.parse(text, f"{remote.url}/{MANIFEST}"), text)


def _wanted(remote: Remote) -> Version:
    version = read_manifest(remote)
    if version is None:
        raise IndexDamaged(f"{remote.url} has no {MANIFEST}: push an index there with `headwater-index push`")
    return version


def _once(files: Iterable[File]) -> list[File]:
    return list({file.sha256: file for file in files}.values())


def _check_folder(folder: Path, manifest: Manifest, url: str) -> None:
    """Notes in a new folder what it will be."""
    if (folder / MANIFEST).exists():
        held = {file.path: file.sha256 for file in Manifest.read(folder).files}
        if any(held.get(file.path, file.sha256) != file.sha256 for file in manifest.files):
            raise ConfigurationError(f"{folder} holds another index than {url}: choose another folder")
        return
    journal = folder / JOURNAL
    if not journal.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} holds other files: choose a new or empty folder")
    if journal.exists() and journal.read_text() != url:
        raise ConfigurationError(
            f"{folder} holds an unfinished pull of {journal.read_text()}: choose another folder, or delete it"
        )
    journal.write_text(url)


def _finish(folder: Path, version: Version) -> Manifest:
    with replacing(folder / MANIFEST) as aside:
        aside.write_bytes(version.text)
    (folder / JOURNAL).unlink(missing_ok=True)
    clean(folder, keep=KEPT)
    return version.manifest


def _is_there(path: Path, file: File) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes and sha256_of(path) == file.sha256


def _pull_file(remote: Remote, file: File, folder: Path) -> None:
    path = folder / file.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise IndexDamaged(f"{remote.url}/{MANIFEST} names a file outside its folder: {file.path}")
    make_folder(path.parent)
    aside = path.with_name(path.name + PARTIAL)
    remote.get(f"{FILES}/{file.sha256}", aside)
    if not _is_there(aside, file):
        aside.unlink()
        raise IndexDamaged(f"{remote.url}/{FILES}/{file.sha256} is altered or cut: push the index again")
    flush(aside)
    aside.replace(path)
    flush(path.parent)


def _transfer(files: list[File], one: Callable[[File], None], name: str, progress: Progress) -> None:
    with (
        progress.step(name, sum(file.bytes for file in files), "B") as step,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="headwater-storage") as pool,
    ):
        try:
            for file, _ in zip(files, pool.map(one, files), strict=True):
                step.advance(file.bytes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
