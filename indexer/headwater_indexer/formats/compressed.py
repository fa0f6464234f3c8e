"""Files as bytes, whether plain, .gz or .zst; a compressed file that was cut off is an error, never a shorter file."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.record import needed

SUFFIXES = (".gz", ".zst")
_CHUNK = 4096  # compressed bytes at a time: what they grow into is held in memory


class _ZstdError(Exception):
    pass


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, decompressed as they are read."""
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.suffix.lower() == ".zst":
        zstandard = needed("zstandard", f"{path}: reading .zst")
        return cast(BinaryIO, io.BufferedReader(_ZstdFile(path, zstandard)))
    return path.open("rb")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the system or a decompressor says about `path` into a CorpusError."""
    try:
        yield
    except EOFError as error:
        raise CorpusError(
            f"{path}: the compressed data stops in the middle. Copy or download the file again."
        ) from error
    except (gzip.BadGzipFile, zlib.error, _ZstdError) as error:
        raise CorpusError(
            f"{path}: not a whole {path.suffix} file ({error}). Copy or download it again, or correct its name."
        ) from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}).") from error


class _ZstdFile(io.RawIOBase):
    """Zstandard frames one after another. (zstandard's own stream reader takes a cut off frame for the end.)"""

    def __init__(self, path: Path, zstandard: Any) -> None:
        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)  # what `zstd --long=31` writes
        self._file = path.open("rb")
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            chunk = self._file.read(_CHUNK)
            if not chunk and self._frame:
                raise EOFError
            if not chunk:
                return 0
            self._ready = memoryview(self._decompressed(chunk))
        into = memoryview(buffer).cast("B")
        size = min(len(into), len(self._ready))
        into[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()

    def _decompressed(self, chunk: bytes) -> bytes:
        parts = []
        while chunk:
            self._frame = self._frame or self._decompressor.decompressobj()
            try:
                parts.append(self._frame.decompress(chunk))
            except self._error as error:
                raise _ZstdError(str(error)) from error
            chunk = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        return b"".join(parts)
