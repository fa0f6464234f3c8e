"""Files that are whole or absent: written aside, flushed to the disk, then renamed."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater_indexer.errors import StorageError

PARTIAL = ".partial"
_WAY_OUT = {
    errno.ENOSPC: "the disk is full: free some space, or choose another folder",
    errno.EDQUOT: "the disk quota is used up: free some space, or choose another folder",
    errno.EFBIG: "the file would grow past the size limit of this process or file system: raise it (ulimit -f)",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission denied: choose another folder, or change the folder's owner",
    errno.EPERM: "permission denied: choose another folder, or change the folder's owner",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EEXIST: "a file of this name is in the way: choose another folder",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an operating system's refusal to write `path` into a StorageError that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None) or _errno_in_text(str(error))
        if number not in _WAY_OUT:
            raise
        raise StorageError(
            f"{path} cannot be written: {_WAY_OUT[number]}. What was finished stays; the same command resumes."
        ) from error


def _errno_in_text(text: str) -> int | None:
    """FAISS keeps the reason of a failed write in its message alone."""
    return next((number for number in _WAY_OUT if os.strerror(number) in text), None)


@contextmanager
def replacing(path: Path, *, named_later: bool = False) -> Iterator[Path]:
    """Gives a path beside `path` to write to; afterwards it is flushed and takes the place of `path` at once.

    `named_later` leaves it to the caller to flush the folder: by replacing another file in it, which comes after this
    one for every file system that keeps a journal.
    """
    aside = path.with_name(path.name + PARTIAL)
    with storage_errors(path):
        aside.unlink(missing_ok=True)
        try:
            yield aside
            flush(aside)
            aside.replace(path)
            if not named_later:
                flush(path.parent)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def flush(path: Path) -> None:
    """Returns when the file's bytes, or the folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> Path:
    """The folder, made if it is not there; a StorageError that says why it cannot be."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
