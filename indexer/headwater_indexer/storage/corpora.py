"""A corpus on shared storage: a folder of the same names on this machine, whose files are here one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from headwater_indexer.errors import CorpusError
from headwater_indexer.storage.remote import Remote


@dataclass(frozen=True)
class RemoteCorpus:
    """`place` is the folder, or the one file; `name` what the URL calls what is there."""

    place: Path
    remote: Remote
    whole: bool  # the URL is that of a file

    @contextmanager
    def here(self, path: Path) -> Iterator[None]:
        """The file has its bytes for the time of the `with`."""
        self.fetch(path)
        try:
            yield
        finally:
            path.write_bytes(b"")

    def fetch(self, path: Path) -> None:
        name = "" if self.whole else path.relative_to(self.place).as_posix()
        try:
            self.remote.get(name, path)
        except FileNotFoundError as error:
            raise CorpusError(f"{self.remote.url}: {name or 'the file'} is not there any more.") from error

    def at_its_url(self, text: str) -> str:
        """What is said of a file here, said of it there."""
        return text.replace(str(self.place), self.remote.url)


@contextmanager
def visited(url: str) -> Iterator[RemoteCorpus]:
    """Raises CorpusError where there is nothing."""
    remote = Remote.at(url)
    with TemporaryDirectory(prefix="headwater-corpus-") as folder:
        place = Path(folder) / (PurePosixPath(remote.root).name or "corpus")
        if whole := remote.is_file():
            place.touch()
        else:
            _lay_out(remote, place)
        yield RemoteCorpus(place, remote, whole)


def _lay_out(remote: Remote, place: Path) -> None:
    """Empty files of the names that are there."""
    names = remote.files()
    if not names:
        raise CorpusError(f"{remote.url}: there is no such file or folder.")
    for name in names:
        path = place / name
        if ".." in PurePosixPath(name).parts:
            raise CorpusError(f"{remote.url}: {name} lies outside of it by its name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def stamp_of(url: str) -> list[tuple[str, int, str]]:
    """The name, size and version of each file of a corpus, as its store tells them."""
    remote = Remote.at(url)
    versions = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated")
    return [
        (name, int(said["size"] or 0), str(next((said[key] for key in versions if said.get(key)), "")))
        for name, said in remote.files().items()
    ]
