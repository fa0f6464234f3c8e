"""What a replica is made of that searches some parts of an index, from files that its own node can read."""

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from headwater_indexer.errors import HeadwaterError, IndexDamaged
from headwater_indexer.manifest import MANIFEST, File, Manifest, verify_file
from headwater_indexer.progress import Silent
from headwater_indexer.search import Hit, Queries
from headwater_indexer.searching import open_part
from headwater_indexer.segments import Search
from headwater_indexer.spread.parts import Part
from headwater_indexer.storage.exchange import pull_files, read_manifest
from headwater_indexer.storage.remote import Remote
from headwater_indexer.workspace import Workspace


class PartSearcher:
    """Is made when its rows have been read. Any number of threads."""

    def __init__(
        self, folder: str, version: str, parts: dict[int, Part], two_stage: bool = False, url: str | None = None
    ) -> None:
        """Where this node has not the folder, what the parts need is pulled from the URL.

        Files that cannot be read make a searcher too: it tries again when it is asked, and tells whoever asks.
        """
        self._folder = Path(folder)
        self._version = version
        self._parts = parts
        self._two_stage = two_stage
        self._url = url
        self._pulled: TemporaryDirectory[str] | None = None
        with suppress(HeadwaterError, OSError):
            self.ready()

    def ready(self) -> bool:
        return bool(self._opened)

    def norms(self, part: int) -> Float[np.ndarray, " rows"]:
        return self._opened[part].norms

    def search(self, part: int, queries: Queries, wanted: dict[str, Any]) -> list[list[Hit]]:
        """As a segment's search does, in the part's own numbers."""
        return self._opened[part](queries, **wanted)

    def influences(
        self, part: int, queries: Queries, among: np.ndarray | None
    ) -> Float32[np.ndarray, "queries searched"]:
        return self._opened[part].influences(queries, among)

    @cached_property
    def _opened(self) -> dict[int, Search]:
        """Raises IndexDamaged for files that are missing, altered, or of another version than is served."""
        if self._url is None or (self._folder / MANIFEST).is_file():
            manifest, folder = Manifest.read(self._folder), self._folder
            for file in self._files(manifest):
                verify_file(folder, file)
        else:
            manifest, folder = self._pull(Remote.at(self._url))
        work, candidates = Workspace(folder), self._candidates(manifest)
        return {
            number: open_part(
                work.segment(part.segment),
                manifest.width,
                plain=manifest.rows.bits == 32,
                candidates=candidates,
                shards=part.shards,
            )
            for number, part in self._parts.items()
        }

    def _pull(self, remote: Remote) -> tuple[Manifest, Path]:
        version = read_manifest(remote)
        if version is None:
            raise IndexDamaged(f"{remote.url} has no {MANIFEST}")
        self._pulled = TemporaryDirectory(prefix="headwater-parts-")
        folder = Path(self._pulled.name)
        try:
            pull_files(remote, self._files(version.manifest), folder, Silent())
        except FileNotFoundError as error:
            raise IndexDamaged(f"{remote.url} has another version now: reload the index") from error
        return version.manifest, folder

    def _files(self, manifest: Manifest) -> list[File]:
        """What is needed to search the parts."""
        if manifest.version != self._version:
            raise IndexDamaged(f"{self._folder} has another version on this node than on the server's")
        folders = ["rows"] if self._candidates(manifest) is None else ["rows", "signs"]
        wanted = {path for part in self._parts.values() for path in part.files(manifest, folders)}
        return [file for file in manifest.files if file.path in wanted]

    def _candidates(self, manifest: Manifest) -> int | None:
        return manifest.search.candidates if self._two_stage else None
