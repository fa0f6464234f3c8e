"""manifest.json: what an index is made of and from, with the SHA-256 of every file. Without it, none is finished.

It names the files of one version of the index: those that all documents share, and segment by segment those of the
documents that were added together. Files never change; a new version is a new manifest, which takes the place of the
one before at once. Its own `sha256` is that of the file's bytes with zeros in place of these 64 digits.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from headwater_indexer import successor
from headwater_indexer.durable import replacing, sha256_of
from headwater_indexer.errors import IndexDamaged
from headwater_indexer.hessian import HessianKind
from headwater_indexer.plan import PlanKind
from headwater_indexer.projection import ProjectionKind
from headwater_indexer.windows import LongDocuments

FORMAT = "headwater-index"
FORMAT_VERSION = 4
MANIFEST = successor.MANIFEST
ZEROS = "0" * 64
FileText = bytes  # named here: manifests have a property `bytes`
Change = Literal["build", "append", "remove", "compact", "rollback"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelPart(_Part):
    """The model whose gradients the rows are. A server refuses to load any other."""

    id: str
    revision: str | None
    architecture: str
    dtype: str
    weights_sha256: str
    tokenizer_sha256: str

    @property
    def name(self) -> str:
        """What the model is called to others: its name on the hub, or its folder's without the path to it."""
        return Path(self.id).name if Path(self.id).is_absolute() else self.id


class ProjectionPart(_Part):
    """How the layers' gradients were projected; the matrices themselves are in projections.safetensors."""

    kind: ProjectionKind
    rank: int
    seed: int


class HessianPart(_Part):
    """What the projected gradients were preconditioned by."""

    kind: HessianKind
    damping: float  # over the mean eigenvalue of each layer


class RowsPart(_Part):
    """What is stored of a document's row."""

    columns: int  # those that are coded, of the manifest's `width`
    bits: int | None  # of a column, 32 or 16; None for codes
    bytes: int  # a document


class SearchPart(_Part):
    """How the build planned to search, and how much of what exact search finds was found so when it was measured."""

    plan: PlanKind = "exact"
    candidates: int | None = None  # scored exactly for each question; None for exact search, which scores all
    recall_at_10: float | None = None  # None likewise: exact search misses nothing
    recall_at_100: float | None = None
    queries: int = 0  # that it was measured on


class WindowsPart(_Part):
    """How documents became sequences."""

    max_length: int  # tokens
    long_documents: LongDocuments


class File(_Part):
    """One file of the index."""

    path: str  # relative to the folder, with /
    bytes: int
    sha256: str


class Counted(_Part):
    """Some documents, in numbers."""

    documents: int
    documents_without_gradient: int  # of one token, or with a loss that no watched weight can change
    windows: int
    tokens: int


class Segment(Counted):
    """Documents that were added together, removed ones included, and the files that are theirs alone."""

    folder: str  # relative to the index's; "." for the first build's
    created: int  # seconds since 1970
    inputs_sha256: str  # of all that they were made from: the same inputs need not be added again
    files: tuple[File, ...]


class Removed(Counted):
    """The documents that stand in the segments and are never returned."""

    file: File


class Manifest(_Part):
    """All that identifies an index, as it is in one of its versions."""

    sha256: str = ZEROS
    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    headwater_version: str
    number: int = 1  # of the version: 1 is the build, and each change counts one on
    change: Change = "build"
    created: int  # seconds since 1970: of the version
    model: ModelPart
    layers: tuple[str, ...]
    projection: ProjectionPart
    hessian: HessianPart
    rows: RowsPart
    windows: WindowsPart
    search: SearchPart = SearchPart()
    width: int
    fitted_on: int  # stored documents, the first ones, that were there when projections and Hessian were fitted
    shared: tuple[File, ...]  # by the documents of all segments
    segments: tuple[Segment, ...]  # their documents are numbered one after the other
    removed: Removed | None = None

    @property
    def documents(self) -> int:
        """Those that can be found: of all segments, less what was removed. The other counts are likewise."""
        return self._count("documents")

    @property
    def documents_without_gradient(self) -> int:
        return self._count("documents_without_gradient")

    @property
    def tokens(self) -> int:
        return self._count("tokens")

    def _count(self, what: str) -> int:
        counted = sum(getattr(segment, what) for segment in self.segments)
        return int(counted - (0 if self.removed is None else getattr(self.removed, what)))

    @property
    def files(self) -> tuple[File, ...]:
        """Every file of this version, but for its manifest."""
        own = (file for segment in self.segments for file in segment.files)
        return (*self.shared, *own, *(() if self.removed is None else (self.removed.file,)))

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def summary(self) -> dict[str, int | float | str]:
        """What follows from the rest, for people."""
        stored = sum(segment.documents for segment in self.segments)
        return {
            "version": self.version,
            "documents": self.documents,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "share_added_since_it_was_fitted": round(1 - self.fitted_on / stored, 4),
        }

    @cached_property
    def version(self) -> str:
        """Names this very version: the digest of its manifest, and so of all its files."""
        return f"sha256:{_digest(self._text(ZEROS).encode())}"

    def _text(self, sha256: str) -> str:
        return self.model_copy(update={"sha256": sha256}).model_dump_json(indent=1) + "\n"

    def write(self, path: Path) -> Self:
        """Makes the folder of `path` an index of this version: the last step of every change."""
        sealed = self.model_copy(update={"sha256": _digest(self._text(ZEROS).encode())})
        with replacing(path) as aside:
            aside.write_text(sealed._text(sealed.sha256))
        return sealed

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises IndexDamaged when the folder is no index, or one of another format."""
        path = folder / MANIFEST
        if not folder.is_dir():
            raise IndexDamaged(f"{folder} is not a folder: give the folder that `headwater-index build --out` made")
        try:
            return cls.read_file(path)
        except FileNotFoundError as error:
            if successor.settle(folder):
                return cls.read_file(path)
            raise IndexDamaged(
                f"{folder} has no {MANIFEST}: the build did not finish. Run the same `headwater-index build` again; it "
                "resumes"
            ) from error

    @classmethod
    def read_file(cls, path: Path) -> "Manifest":
        """The manifest in a file. Raises FileNotFoundError, and IndexDamaged for what is not a whole manifest."""
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, text: FileText, path: str) -> "Manifest":
        """That of a file's bytes; `path` is what messages call it. Raises IndexDamaged likewise."""
        try:
            head = _Head.model_validate_json(text)
            if (head.format, head.format_version) != (FORMAT, FORMAT_VERSION):
                raise IndexDamaged(
                    f"{path} has format {head.format} {head.format_version}, and this version of Headwater reads "
                    f"{FORMAT} {FORMAT_VERSION}: build the index again, or install the version that made it"
                )
            manifest = cls.model_validate_json(text)
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the whole"
            raise IndexDamaged(f"{path} is altered or damaged (at {place}): {_WAY_OUT}") from error
        if _digest(text.replace(manifest.sha256.encode(), ZEROS.encode(), 1)) != manifest.sha256:
            raise IndexDamaged(f"{path} is altered: its SHA-256 is not the one that it says. {_WAY_OUT.capitalize()}")
        return manifest


_WAY_OUT = "copy it again, or build the index again"


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


class _Head(BaseModel):
    format: str
    format_version: int


def describe_file(folder: Path, path: Path) -> File:
    """The manifest's entry for a file that is on the disk."""
    return File(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=sha256_of(path))


def verify_file(folder: Path, file: File) -> None:
    """Raises IndexDamaged, with the file's name, when it is missing or not the one that the manifest describes."""
    path = folder / file.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise IndexDamaged(f"{folder / MANIFEST} names a file outside its folder: {file.path}")
    if not path.is_file():
        raise IndexDamaged(f"{path} is missing: the index is incomplete. Copy it again, or build it again")
    if path.stat().st_size != file.bytes:
        raise IndexDamaged(f"{path} has {path.stat().st_size} bytes and should have {file.bytes}: it is altered or cut")
    if sha256_of(path) != file.sha256:
        raise IndexDamaged(f"{path} is altered: its SHA-256 is not the manifest's. Copy it again, or build it again")
