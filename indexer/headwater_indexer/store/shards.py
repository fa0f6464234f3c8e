"""A folder of HDF5 shards of rows with a manifest: a shard exists once the manifest names it.

    rows-manifest.json   {"format": 1, "width": ..., "shards": [{"file", "first", "rows", "bytes", "sha256"}, ...]}
    rows-00000.h5        dataset "rows" float32 [rows, width], in chunks of whole rows

A shard is written aside, flushed and renamed, and then the manifest is replaced: a kill at any moment loses at most
the shard in work, and readers never see half of one.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, ValidationError

from headwater_indexer.durable import make_folder, replacing, sha256_of
from headwater_indexer.errors import IndexDamaged

FORMAT = 1
MANIFEST = "rows-manifest.json"
CHUNK_BYTES = 1 << 20
Rows = Float32[np.ndarray, "rows width"]


class Shard(BaseModel):
    """One file of successive rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    first: int  # number of its first row in the whole store
    rows: int
    bytes: int
    sha256: str


class ShardManifest(BaseModel):
    """The shards that are whole, in the order of their rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    width: int
    shards: tuple[Shard, ...] = ()

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


class ShardStore:
    """Reads and appends shards. One writer at a time; readers see what the manifest named when they opened it."""

    def __init__(self, folder: Path, *, width: int) -> None:
        """Opens the folder's store, or begins one. Raises IndexDamaged when it is of another width or format."""
        self.folder = make_folder(folder)
        self.manifest = _read_manifest(folder) if (folder / MANIFEST).exists() else ShardManifest(width=width)
        if self.manifest.width != width:
            raise IndexDamaged(f"{folder} holds rows of {self.manifest.width} columns, not {width}: start a new folder")

    @classmethod
    def open(cls, folder: Path) -> "ShardStore":
        """Opens a store that is there. Raises IndexDamaged when it is not."""
        return cls(folder, width=_read_manifest(folder).width)

    def __len__(self) -> int:
        return self.manifest.rows

    def append(self, rows: Rows) -> Shard:
        """Writes the next shard; when this returns it is on the disk and named."""
        path = self.folder / f"rows-{len(self.manifest.shards):05d}.h5"
        rows_per_chunk = max(1, min(len(rows), CHUNK_BYTES // (4 * self.manifest.width)))
        with replacing(path) as aside:
            aside.write_bytes(_hdf5_image(rows, rows_per_chunk))
        shard = Shard(
            file=path.name, first=len(self), rows=len(rows), bytes=path.stat().st_size, sha256=sha256_of(path)
        )
        self.manifest = self.manifest.model_copy(update={"shards": (*self.manifest.shards, shard)})
        with replacing(self.folder / MANIFEST) as aside:
            aside.write_text(self.manifest.model_dump_json(indent=1) + "\n")
        return shard

    def read(self, shard: Shard) -> Rows:
        """All rows of one shard. Raises IndexDamaged when the file is missing or is not what the manifest says."""
        path = self.folder / shard.file
        try:
            with h5py.File(path, "r") as file:
                rows: Rows = file["rows"][:]
        except (OSError, KeyError) as error:
            raise IndexDamaged(f"{path} cannot be read ({error}): build the index again") from error
        if rows.shape != (shard.rows, self.manifest.width):
            raise IndexDamaged(f"{path} holds {rows.shape} numbers where its manifest says {shard.rows} rows")
        return rows

    def __iter__(self) -> Iterator[Rows]:
        """A pass over all rows, shard by shard."""
        for shard in self.manifest.shards:
            yield self.read(shard)

    def discard(self, shard: Shard) -> None:
        """Frees the disk of a shard that has been read for the last time; the manifest goes on counting it."""
        with suppress(FileNotFoundError):
            (self.folder / shard.file).unlink()


def _hdf5_image(rows: Rows, rows_per_chunk: int) -> bytes:
    """The bytes of the file, made in memory: HDF5 ends the whole process when the disk is full as it writes."""
    with h5py.File("rows", "w", driver="core", backing_store=False, libver="v110") as file:
        file.create_dataset("rows", data=rows, dtype="float32", chunks=(rows_per_chunk, rows.shape[1]))
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _read_manifest(folder: Path) -> ShardManifest:
    path = folder / MANIFEST
    try:
        manifest = ShardManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise IndexDamaged(
            f"{folder} has no {MANIFEST}: the build did not get that far. Build the index again"
        ) from error
    except ValidationError as error:
        raise IndexDamaged(f"{path} is not a manifest of rows: build the index again") from error
    if manifest.format != FORMAT:
        raise IndexDamaged(f"{path} has format {manifest.format}, and this version reads {FORMAT}")
    return manifest
