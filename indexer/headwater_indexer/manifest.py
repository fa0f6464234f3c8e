"""manifest.json: what an index is made of and from, with the SHA-256 of every file. Without it, none is finished."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from headwater_indexer.durable import replacing, sha256_of
from headwater_indexer.errors import IndexDamaged
from headwater_indexer.hessian import HessianKind
from headwater_indexer.projection import ProjectionKind
from headwater_indexer.windows import LongDocuments

FORMAT = "headwater-index"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"


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
    block: int | None  # columns in a byte of a code
    bytes: int  # a document


class WindowsPart(_Part):
    """How documents became sequences."""

    max_length: int  # tokens
    long_documents: LongDocuments
    count: int


class File(_Part):
    """One file of the index."""

    path: str  # relative to the folder, with /
    bytes: int
    sha256: str


class Manifest(_Part):
    """All that identifies an index."""

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    headwater_version: str
    created: int  # seconds since 1970
    inputs_sha256: str  # of options, model and corpus: the same inputs need no second build
    model: ModelPart
    layers: tuple[str, ...]
    projection: ProjectionPart
    hessian: HessianPart
    rows: RowsPart
    windows: WindowsPart
    documents: int
    documents_without_gradient: int  # of one token, or with a loss that no watched weight can change
    tokens: int
    width: int
    files: tuple[File, ...]

    @property
    def version(self) -> str:
        """Names this very index: the digest of its manifest, and so of all its files."""
        return "sha256:" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def write(self, folder: Path) -> None:
        """Makes the folder an index: the last step of a build."""
        with replacing(folder / MANIFEST) as aside:
            aside.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises IndexDamaged when the folder is no index, or one of another format."""
        path = folder / MANIFEST
        if not folder.is_dir():
            raise IndexDamaged(f"{folder} is not a folder: give the folder that `headwater-index build --out` made")
        try:
            text = path.read_bytes()
        except FileNotFoundError as error:
            raise IndexDamaged(
                f"{folder} has no {MANIFEST}: the build did not finish. Run the same `headwater-index build` again; it "
                "resumes"
            ) from error
        try:
            head = _Head.model_validate_json(text)
            if (head.format, head.format_version) != (FORMAT, FORMAT_VERSION):
                raise IndexDamaged(
                    f"{path} has format {head.format} {head.format_version}, and this version of Headwater reads "
                    f"{FORMAT} {FORMAT_VERSION}: build the index again, or install the version that made it"
                )
            return cls.model_validate_json(text)
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the whole"
            raise IndexDamaged(f"{path} is altered or damaged (at {place}): build the index again") from error


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
