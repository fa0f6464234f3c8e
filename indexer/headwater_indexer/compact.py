"""Writes an index anew without what was removed from it, in one segment, and erases the rest from the disk.

Rows and codes are copied as they are: what is found, and its scores, are the same as before, bit for bit.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.catalogue import Catalogue, numbering_of, open_catalogue
from headwater_indexer.documents import DocumentStore, DocumentWriter
from headwater_indexer.durable import flush, make_folder, storage_errors
from headwater_indexer.estimate import check_disk
from headwater_indexer.gradients import shard_size
from headwater_indexer.index import verify_index
from headwater_indexer.lengths import stored_lengths
from headwater_indexer.manifest import Manifest, Segment, describe_file
from headwater_indexer.numbering import Numbering
from headwater_indexer.progress import Progress, Silent, counted
from headwater_indexer.search import write_flat_index
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.successor import NEXT
from headwater_indexer.versions import KEPT, clean, new_segment_folder, succeeding, switch
from headwater_indexer.workspace import Workspace, changing


def compact(folder: Path, *, progress: Progress | None = None) -> Manifest:
    """Makes a version of one segment without any removed document, and deletes the files of all versions before.

    Needs as much room on the disk as the index that is left takes. Raises IndexDamaged, before anything is written,
    for an index that is not whole.
    """
    progress = progress or Silent()
    with changing(folder) as work, storage_errors(folder):
        manifest = verify_index(folder, progress)
        clean(folder, keep=KEPT)  # what a change that was killed left, so that there is room
        shutil.rmtree(folder / NEXT, ignore_errors=True)  # a build that was given up may hold what was removed
        if len(manifest.segments) == 1 and manifest.removed is None:
            clean(folder, keep=0)
            return manifest
        check_disk(folder, sum(file.bytes for segment in manifest.segments for file in segment.files))
        made = make_folder(new_segment_folder(folder, manifest))
        try:
            merged = _merged(work, manifest, work.segment(made.relative_to(folder).as_posix()), progress)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        gone = int((numbering_of(folder, manifest).removed < manifest.fitted_on).sum())
        parts = {"segments": (merged,), "removed": None, "fitted_on": manifest.fitted_on - gone}
        return switch(folder, succeeding(manifest, "compact", **parts), keep=0)


def _merged(work: Workspace, manifest: Manifest, made: Workspace, progress: Progress) -> Segment:
    parts = [work.segment(segment.folder) for segment in manifest.segments]
    with open_catalogue(work.root, manifest) as there:
        numbering = there.numbering
        _copy_documents(there, made, progress)
    _copy_shards([part.rows for part in parts], made.rows, numbering, shard_size(manifest.width))
    if manifest.rows.bits == 32:
        write_flat_index(made.search, made.norms, ShardStore.open(made.rows), manifest.width)
    if parts[0].signs.exists():
        width = ShardStore.open(parts[0].signs).manifest.width
        _copy_shards([part.signs for part in parts], made.signs, numbering, shard_size(manifest.width))
    if parts[0].embeddings.exists():
        width = ShardStore.open(parts[0].embeddings).manifest.width
        _copy_shards([part.embeddings for part in parts], made.embeddings, numbering, shard_size(width))
    files = made.own_files(gradients=False)
    with DocumentStore(made.documents) as store, progress.step("checksums", len(files), "file") as step:
        return Segment(
            folder=made.folder.relative_to(made.root).as_posix(),
            created=int(time.time()),
            inputs_sha256=manifest.segments[0].inputs_sha256,
            documents=len(store),
            documents_without_gradient=int((stored_lengths(made, manifest.rows) == 0).sum()),
            windows=store.windows(),
            tokens=store.tokens(),
            files=tuple(describe_file(made.root, file) for file in counted(files, step)),
        )


def _copy_documents(there: Catalogue, made: Workspace, progress: Progress) -> None:
    with DocumentWriter(made.unfinished_documents) as writer, progress.step("documents", len(there), "doc") as step:
        for document, windows, tokens in counted(there.sized(), step):
            writer.add(document, windows=windows, tokens=tokens)
    made.unfinished_documents.replace(made.documents)
    flush(made.folder)
    with progress.step("words", len(there), "doc") as step:
        FullText.write(made.full_text, counted(there, step))


def _copy_shards(folders: Iterable[Path], made: Path, numbering: Numbering, rows: int) -> None:
    """The rows that are left of some stores into a new one, so many in a shard."""
    stores = [ShardStore.open(folder) for folder in folders]
    target = ShardStore(made, width=stores[0].manifest.width, dtype=stores[0].manifest.dtype)
    for block in _cut(_left(stores, numbering), rows):
        target.append(block)


def _left(stores: Iterable[ShardStore], numbering: Numbering) -> Iterator[Any]:
    for segment, store in enumerate(stores):
        removed = numbering.removed_from(segment)
        for shard in store.manifest.shards:
            here = removed[(removed >= shard.first) & (removed < shard.first + shard.rows)]
            yield np.delete(store.read(shard), here - shard.first, axis=0)


def _cut(blocks: Iterable[Any], size: int) -> Iterator[Any]:
    """The same rows in blocks of `size`, and one of the rest."""
    waiting: list[Any] = []
    for block in blocks:
        waiting.append(block)
        while sum(map(len, waiting)) >= size:
            joined = np.concatenate(waiting)
            yield joined[:size]
            waiting = [joined[size:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)
