"""The folder of a build: one builder at a time, resumed only with the same inputs, never mixed with other files."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headwater_indexer.durable import PARTIAL, make_folder, replacing
from headwater_indexer.errors import ConfigurationError, IndexDamaged
from headwater_indexer.manifest import MANIFEST, Manifest
from headwater_indexer.successor import NEXT, complete, succeed

JOURNAL = "build.json"
FIRST = "."  # the folder of the first segment
SEGMENTS, REMOVED, VERSIONS = "segments", "removed", "versions"  # folders of what changed since the build


@dataclass(frozen=True)
class Workspace:
    """Where each part of a segment lies: in the index's folder for the first, under `segments` for one added later."""

    folder: Path
    index: Path | None = None  # the index's own folder, where it is another

    @property
    def root(self) -> Path:
        """The index's folder, where what all segments share lies."""
        return self.index or self.folder

    def segment(self, folder: str) -> "Workspace":
        """Of the segment in this folder of the index."""
        return self if folder == FIRST else Workspace(self.root / folder, self.root)

    @property
    def documents(self) -> Path:
        return self.folder / "documents.sqlite"

    @property
    def unfinished_documents(self) -> Path:
        return self.folder / f"documents.sqlite{PARTIAL}"

    @property
    def full_text(self) -> Path:
        """The words of all documents, for BM25."""
        return self.folder / "words.sqlite"

    @property
    def embeddings(self) -> Path:
        """Shards of the documents' mean hidden states, where the build was asked for them."""
        return self.folder / "embeddings"

    @property
    def projections(self) -> Path:
        return self.root / "projections.safetensors"

    @property
    def whitener(self) -> Path:
        return self.root / "whitener.safetensors"

    @property
    def factors(self) -> Path:
        """EK-FAC of unprojected gradients, where the build was asked for it."""
        return self.root / "factors.safetensors"

    @property
    def gradients(self) -> Path:
        """Shards of rows before whitening; gone when the build is done, unless they are kept."""
        return self.folder / "gradients"

    @property
    def rows(self) -> Path:
        return self.folder / "rows"

    @property
    def coder(self) -> Path:
        """How rows became codes, where they are not kept as they are."""
        return self.root / "codes.safetensors"

    @property
    def signs(self) -> Path:
        """One bit a column of each row, where the plan is to search by them first."""
        return self.folder / "signs"

    @property
    def sign_coder(self) -> Path:
        """Which columns' signs; it is there once it is settled that there are any."""
        return self.root / "signs.safetensors"

    @property
    def search(self) -> Path:
        return self.folder / "search.faiss"

    @property
    def norms(self) -> Path:
        return self.folder / "norms.safetensors"

    def shared_files(self) -> list[Path]:
        """The files of a finished build that the documents of all segments share."""
        asked = [file for file in (self.coder, self.sign_coder, self.factors) if file.exists()]
        return [self.projections, self.whitener, *asked]

    def own_files(self, *, gradients: bool) -> list[Path]:
        """The files of a finished segment that are its documents' own; with or without the shards of gradients."""
        folders = [self.rows, self.gradients] if gradients else [self.rows]
        folders += [folder for folder in (self.signs, self.embeddings) if folder.exists()]
        shards = [file for folder in folders for file in sorted(folder.iterdir())]
        searched = [self.search, self.norms] if self.search.exists() else []
        return [self.documents, self.full_text, *searched, *shards]

    def begin(self, inputs_sha256: str, *, overwrite: bool) -> "Manifest | Workspace":
        """Readies the folder for a build of these inputs, to be begun or resumed.

        Returns where to build: here, or beneath where an index stays until the new one is whole; or the manifest if
        they have been built already. Raises ConfigurationError when the folder holds another index, another unfinished
        build, or somebody's files.
        """
        completed = self.complete()
        if (self.folder / MANIFEST).exists():
            manifest = None if overwrite and not completed else Manifest.read(self.folder)
            if manifest is not None and manifest.segments[0].inputs_sha256 == inputs_sha256:
                return manifest
            if overwrite:
                return Workspace(make_folder(self.folder / NEXT)).begin(inputs_sha256, overwrite=True)
            raise ConfigurationError(
                f"{self.folder} holds an index of other options, another model or other documents: choose another "
                "--out, or --overwrite it"
            )
        begun = self._begun()
        if begun != inputs_sha256:
            if begun is not None and not overwrite:
                raise ConfigurationError(
                    f"{self.folder} holds an unfinished build of other options, another model or documents that have "
                    "changed since: run it with the former ones to resume it, or --overwrite it"
                )
            if begun is None and self._holds_other_files():
                raise ConfigurationError(f"{self.folder} holds other files: choose a new or empty folder for --out")
            self.clear()
        with replacing(self.folder / JOURNAL) as aside:
            aside.write_text(json.dumps({"inputs_sha256": inputs_sha256}))
        return self

    def succeed(self, whole: "Workspace") -> None:
        """Has a build that is whole be the index: it is, or it takes the place of the one above it."""
        if whole.folder != self.folder:
            succeed(self.folder, [made.name for made in self._made()])

    def complete(self) -> bool:
        """Ends what a kill left of that; whether there was a build that is whole."""
        return complete(self.folder, [made.name for made in self._made()])

    def clear(self) -> None:
        """Removes what a build makes, and nothing else."""
        for made in self._made():
            if made.is_dir():
                shutil.rmtree(made)
            else:
                made.unlink()

    def _made(self) -> list[Path]:
        """What a build and later changes have made here, and what they left unfinished; without the manifest."""
        single = [
            self.documents,
            self.full_text,
            self.projections,
            self.whitener,
            self.factors,
            self.coder,
            self.sign_coder,
            self.search,
            self.norms,
            self.folder / JOURNAL,
        ]
        later = (self.folder / name for name in (SEGMENTS, REMOVED, VERSIONS))
        folders = (self.rows, self.gradients, self.signs, self.embeddings, *later)
        files = [leftover for file in single for leftover in self.folder.glob(f"{file.name}*")]
        return [*files, *(folder for folder in folders if folder.exists())]

    def finish(self, manifest: Manifest, *, keep_gradients: bool) -> Manifest:
        """Makes the folder an index, and clears what the build alone needed; returns the manifest as it is written."""
        written = manifest.write(self.folder / MANIFEST)
        (self.folder / JOURNAL).unlink(missing_ok=True)
        if not keep_gradients:
            shutil.rmtree(self.gradients, ignore_errors=True)
        return written

    def _holds_other_files(self) -> bool:
        """Of more than a build that was killed as it began."""
        return any(file.name != f"{JOURNAL}{PARTIAL}" for file in self.folder.iterdir())

    def _begun(self) -> str | None:
        try:
            return str(json.loads((self.folder / JOURNAL).read_text())["inputs_sha256"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return "unreadable"


@contextmanager
def working_in(folder: Path) -> Iterator[Workspace]:
    """The folder, made if need be and locked. Raises ConfigurationError when another build works in it."""
    make_folder(folder)
    with _locked(folder) as work:
        yield work


@contextmanager
def changing(folder: Path) -> Iterator[Workspace]:
    """The folder of an index, locked until the change is made. Raises ConfigurationError when another is at work."""
    with _locked(folder) as work:
        work.complete()
        yield work


@contextmanager
def _locked(folder: Path) -> Iterator[Workspace]:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise IndexDamaged(f"{folder} cannot be opened ({error.strerror}): give the folder of an index") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Workspace(folder)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"another build or change is at work in {folder}: wait for it, or choose another folder"
        ) from error
    finally:
        os.close(descriptor)
