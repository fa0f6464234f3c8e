"""A folder of HDF5 shards of rows with a manifest: a shard exists once the manifest names it.

    rows-manifest.json   {"format": 1, "width": ..., "dtype": "float32" or "uint8",
                          "shards": [{"file", "first", "rows", "bytes"}, ...]}
    rows-00000.h5        dataset "rows" [rows, width], row after row, so that any of them can be read alone

A shard is written aside, flushed and renamed, and then the manifest is replaced: a kill at any moment loses at most
the shard in work, and readers never see half of one.
"""

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, ConfigDict, ValidationError

from headwater_indexer.durable import make_folder, replacing
from headwater_indexer.errors import IndexDamaged

FORMAT = 1
MANIFEST = "rows-manifest.json"
ALIGNMENT = 4096  # bytes: a page of memory, so that rows may be mapped as numbers
RowType = Literal["float32", "uint8"]  # numbers, or records of bytes
Rows = Float32[np.ndarray, "rows width"] | UInt8[np.ndarray, "rows width"]


class Shard(BaseModel):
    """One file of successive rows. Its checksum stands in the index's manifest, with those of all other files."""

    model_config = ConfigDict(frozen=True)

    file: str
    first: int  # number of its first row in the whole store
    rows: int
    bytes: int


class ShardManifest(BaseModel):
    """The shards that are whole, in the order of their rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    width: int
    dtype: RowType = "float32"
    shards: tuple[Shard, ...] = ()

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True)
class Place:
    """Rows that stand one after the other in a file, from this byte on."""

    path: Path
    offset: int
    rows: int


class ShardStore:
    """Reads and appends shards. One writer at a time; readers see what the manifest named when they opened it."""

    def __init__(self, folder: Path, *, width: int, dtype: RowType = "float32") -> None:
        """Opens the folder's store, or begins one. Raises IndexDamaged when it is of another width, type or format."""
        self.folder = make_folder(folder)
        begun = (folder / MANIFEST).exists()
        self.manifest = _read_manifest(folder) if begun else ShardManifest(width=width, dtype=dtype)
        for what, found, wanted in (
            ("columns", self.manifest.width, width),
            ("type", self.manifest.dtype, dtype),
        ):
            if found != wanted:
                raise IndexDamaged(f"{folder} holds rows of {found} {what}, not {wanted}: start a new folder")

    @classmethod
    def open(cls, folder: Path) -> "ShardStore":
        """Opens a store that is there. Raises IndexDamaged when it is not."""
        manifest = _read_manifest(folder)
        return cls(folder, width=manifest.width, dtype=manifest.dtype)

    def __len__(self) -> int:
        return self.manifest.rows

    def append(self, rows: Rows) -> Shard:
        """Writes the next shard; when this returns it is on the disk and named."""
        path = self.folder / f"rows-{len(self.manifest.shards):05d}.h5"
        stored = np.ascontiguousarray(rows, dtype=self.manifest.dtype)
        parts = [_hdf5_header(stored.shape, self.manifest.dtype), stored.data.cast("B") if stored.size else b""]
        with replacing(path, named_later=True) as aside, aside.open("wb") as file:
            for part in parts:
                file.write(part)
        shard = Shard(file=path.name, first=len(self), rows=len(rows), bytes=sum(map(len, parts)))
        self.manifest = self.manifest.model_copy(update={"shards": (*self.manifest.shards, shard)})
        with replacing(self.folder / MANIFEST) as aside:
            aside.write_text(self.manifest.model_dump_json(indent=1) + "\n")
        return shard

    def read(self, shard: Shard) -> Any:
        """All rows of one shard. Raises IndexDamaged when the file is missing or is not what the manifest says."""
        place, rows = self.place(shard), np.empty((shard.rows, self.manifest.width), dtype=self.manifest.dtype)
        with place.path.open("rb") as file:
            file.seek(place.offset)
            if rows.size and file.readinto(rows.data.cast("B")) != rows.nbytes:
                raise IndexDamaged(f"{place.path} is cut: copy it again, or build the index again")
        return rows

    def place(self, shard: Shard) -> "Place":
        """Where the rows of one shard are. Raises as `read`."""
        path = self.folder / shard.file
        try:
            with h5py.File(path, "r") as file:
                rows = file["rows"]
                found, dtype, offset = rows.shape, rows.dtype, rows.id.get_offset()
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError) as error:
            raise IndexDamaged(f"{path} cannot be read ({error}): build the index again") from error
        if found != (shard.rows, self.manifest.width) or dtype != self.manifest.dtype:
            raise IndexDamaged(f"{path} holds {found} numbers where its manifest says {shard.rows} rows")
        if offset is None:  # nothing is allocated for no rows, and a chunked file has no single place
            raise IndexDamaged(f"{path} does not hold its rows one after the other: build the index again")
        if offset + shard.rows * self.manifest.width * dtype.itemsize > path.stat().st_size:
            raise IndexDamaged(f"{path} is cut: copy it again, or build the index again")
        return Place(path, offset, shard.rows)

    def __iter__(self) -> Iterator[Any]:
        """A pass over all rows, shard by shard."""
        for shard in self.manifest.shards:
            yield self.read(shard)

    def discard(self, shard: Shard) -> None:
        """Frees the disk of a shard that has been read for the last time; the manifest goes on counting it."""
        with suppress(FileNotFoundError):
            (self.folder / shard.file).unlink()


@lru_cache(maxsize=4)
def _hdf5_header(shape: tuple[int, ...], dtype: RowType) -> bytes:
    """All of an HDF5 file that stands before the rows, which end it. HDF5 itself never writes to the disk: it ends the
    whole process when that is full."""
    made = io.BytesIO()
    aligned = {"alignment_threshold": shape[-1], "alignment_interval": ALIGNMENT}
    with h5py.File(made, "w", libver="v110", **aligned) as file:
        plan = h5p.create(h5p.DATASET_CREATE)
        plan.set_layout(h5d.CONTIGUOUS)
        plan.set_obj_track_times(False)  # the same rows are the same bytes, whenever they are written
        plan.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5d.FILL_TIME_NEVER)
        kind = h5t.py_create(np.dtype(dtype), logical=True)
        rows = h5d.create(file.id, b"rows", kind, h5s.create_simple(shape), plan)
        offset = rows.get_offset()
    header = made.getvalue()
    return header if offset is None else header[:offset].ljust(offset, b"\0")


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
