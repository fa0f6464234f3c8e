"""Removes documents from an index: from the next version on, none of them is found, counted or shown.

Their rows and texts stay on the disk, unread, until `compact` writes the index without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headwater_indexer.catalogue import Catalogue, open_catalogue
from headwater_indexer.durable import make_folder, storage_errors
from headwater_indexer.errors import UsageError
from headwater_indexer.filters import OneOf, Where
from headwater_indexer.lengths import stored_lengths
from headwater_indexer.manifest import Manifest, Removed, describe_file
from headwater_indexer.numbering import Ordinals, save_removed
from headwater_indexer.versions import KEPT, succeeding, switch
from headwater_indexer.workspace import REMOVED, Workspace, changing


@dataclass(frozen=True, kw_only=True)
class Unwanted:
    """The documents of these ids, those of these sources, and those that the filter holds for."""

    ids: Sequence[str] = ()
    sources: Sequence[str] = ()
    where: Where | None = None
    may_be_missing: bool = False  # an id or a source that the index does not have is then passed over


def remove_documents(folder: Path, unwanted: Unwanted, *, keep: int = KEPT) -> Manifest:
    """Makes a version without them; returns its manifest, or the current one where there is nothing to remove.

    Raises UsageError for an id or a source that the index does not have, and where no document would be left.
    """
    with changing(folder) as work, storage_errors(folder):
        manifest = Manifest.read(folder)
        parts = [work.segment(segment.folder) for segment in manifest.segments]
        with open_catalogue(folder, manifest) as there:
            found = _found(folder, there, unwanted)
            if not len(found):
                return manifest
            if len(found) == len(there):
                raise UsageError(f"this would leave no document in {folder}: delete the folder instead")
            numbering = there.numbering
            removed = np.union1d(numbering.removed, numbering.stored(found))
            written = _written(folder, manifest, there, parts, removed)
        return switch(folder, succeeding(manifest, "remove", removed=written), keep=keep)


def _found(folder: Path, there: Catalogue, unwanted: Unwanted) -> Ordinals:
    """The ordinals that are meant, each once."""
    by_id = there.ordinals(unwanted.ids)
    if not unwanted.may_be_missing:
        missing = [document_id for document_id, ordinal in zip(unwanted.ids, by_id, strict=True) if ordinal is None]
        _refuse_missing(folder, "document", missing)
        known = there.sources() if unwanted.sources else {}
        _refuse_missing(folder, "source", [source for source in unwanted.sources if source not in known])
    found = [np.array([ordinal for ordinal in by_id if ordinal is not None], dtype=np.int64)]
    if unwanted.sources:
        found.append(there.matching(OneOf(("source",), tuple(unwanted.sources))))
    if unwanted.where is not None:
        found.append(there.matching(unwanted.where))
    return np.unique(np.concatenate(found))


def _refuse_missing(folder: Path, what: str, missing: Sequence[str]) -> None:
    if missing:
        more = f" (and {len(missing) - 1} more that it does not have)" if len(missing) > 1 else ""
        raise UsageError(
            f"{folder} has no {what} {missing[0]!r}{more}: leave it out, or add --missing-ok; nothing was removed"
        )


def _written(
    folder: Path, manifest: Manifest, there: Catalogue, parts: Sequence[Workspace], removed: Ordinals
) -> Removed:
    """The file that names the removed documents, and they in numbers."""
    path = make_folder(folder / REMOVED) / f"{manifest.number + 1:04d}.safetensors"
    save_removed(path, removed)
    windows = tokens = without_gradient = 0
    for segment, _, local in there.numbering.by_segment(removed):
        own_windows, own_tokens = there.stores[segment].counted(local.tolist())
        windows, tokens = windows + own_windows, tokens + own_tokens
        without_gradient += int((stored_lengths(parts[segment], manifest.rows)[local] == 0).sum())
    return Removed(
        documents=len(removed),
        documents_without_gradient=without_gradient,
        windows=windows,
        tokens=tokens,
        file=describe_file(folder, path),
    )
