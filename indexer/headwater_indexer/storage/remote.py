"""A place on shared storage, by its URL: s3://, gs://, file:// and whatever else fsspec knows.

Who one is comes from the usual variables of each store's own library (AWS_*, GOOGLE_APPLICATION_CREDENTIALS, FSSPEC_*),
never from a URL, which is printed and kept.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headwater_indexer.errors import HeadwaterError, MissingPackage, StorageError, UsageError

_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]*)://.", re.ASCII)
_HUB = "hf"  # a dataset's name, which is read in its own way
_PACKAGES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}  # the extra of ours that brings the library


def is_url(location: str) -> bool:
    """Whether this names a place on shared storage, not on this machine's disk."""
    found = _URL.match(location)
    return found is not None and found["protocol"] != _HUB


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Files below one URL, by their names relative to it. Any number of threads may use it.

    Raises StorageError with the URL for whatever the store says; FileNotFoundError where a file to read is not there.
    """

    url: str
    root: str
    fs: Any = field(repr=False)

    @classmethod
    def at(cls, url: str) -> "Remote":
        """Raises UsageError for a URL that is none, and MissingPackage for a store whose library is not installed."""
        import fsspec

        protocol = url.partition("://")[0]
        if "@" in urlsplit(url).netloc:
            raise UsageError(
                f"the {protocol}:// URL holds a name or a key before its @: give these by the environment of the "
                "store's own library (as AWS_ACCESS_KEY_ID), since a URL is printed and kept"
            )
        try:
            with _told(url):
                fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            if isinstance(error, ImportError):
                extra = _PACKAGES.get(protocol)
                package = f"headwater[{extra}]" if extra else protocol
                raise MissingPackage(
                    f"{protocol}:// needs another package ({error}): pip install '{package}'"
                ) from None
            raise UsageError(f"{url}: {error}") from None
        return cls(url=url.rstrip("/"), root=root.rstrip("/"), fs=fs)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def files(self, below: str = "") -> dict[str, dict[str, Any]]:
        """What the store says of each file below, by its name relative to that; none where there is no such place."""
        with _told(self.url):
            start = self._path(below)
            found = self.fs.find(start, detail=True)
            return {path.removeprefix(start).lstrip("/"): said for path, said in sorted(found.items())}

    def is_file(self) -> bool:
        """Whether the URL is that of one file."""
        with _told(self.url):
            return bool(self.fs.isfile(self.root))

    def read(self, name: str) -> bytes:
        with _told(self.url, missing=FileNotFoundError):
            return bytes(self.fs.cat_file(self._path(name)))

    def get(self, name: str, to: Path) -> None:
        with _told(self.url, missing=FileNotFoundError):
            self.fs.get_file(self._path(name), str(to))

    def put(self, file: Path, name: str) -> None:
        """Object stores show a file when it is whole; on a disk it is written aside and renamed."""
        with _told(self.url):
            target = self._path(name)
            if not self._on_disk:
                self.fs.put_file(str(file), target)
                return
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            aside = f"{target}.partial"
            self.fs.put_file(str(file), aside)
            Path(aside).replace(target)

    def delete(self, name: str) -> None:
        with _told(self.url):
            self.fs.rm_file(self._path(name))

    @property
    def _on_disk(self) -> bool:
        return "file" in self.fs.protocol


@contextmanager
def _told(url: str, *, missing: type[Exception] = HeadwaterError) -> Iterator[None]:
    """`missing` is passed on as it is."""
    try:
        yield
    except (HeadwaterError, ImportError, ValueError, missing):
        raise
    except Exception as error:  # each store's library has kinds of its own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise StorageError(
            f"{url} cannot be reached, read or written ({reason}): check its name, the network, and the variables by "
            "which its store knows you"
        ) from error
