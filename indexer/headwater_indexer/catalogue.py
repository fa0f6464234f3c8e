"""The documents of all segments as one: by ordinal, by id, or by a filter, and none that was removed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from headwater_indexer.corpus import Document
from headwater_indexer.documents import DocumentStore
from headwater_indexer.filters import Sql, Where
from headwater_indexer.manifest import Manifest
from headwater_indexer.numbering import Numbering, load_removed
from headwater_indexer.search import NOTHING
from headwater_indexer.workspace import Workspace

_PAGE = 1000  # documents in memory while iterating
_KEPT_FILTERS = 16  # of each, 8 bytes a document that passes


@dataclass(frozen=True)
class _Written:
    """A filter whose SQL is there already."""

    condition: Sql

    def sql(self) -> Sql:
        return self.condition


class Catalogue:
    """Reads from any number of threads. Raises IndexDamaged for what is damaged, also later, while reading."""

    def __init__(self, stores: Sequence[DocumentStore], numbering: Numbering) -> None:
        self.stores = stores
        self.numbering = numbering
        self._matching = lru_cache(maxsize=_KEPT_FILTERS)(self._scan)  # the files never change

    def __len__(self) -> int:
        return len(self.numbering)

    def __iter__(self) -> Iterator[Document]:
        """The documents by ordinal; some are in memory at a time."""
        for first in range(0, len(self), _PAGE):
            yield from self.by_ordinal(range(first, min(first + _PAGE, len(self))))

    def by_ordinal(self, ordinals: Sequence[int]) -> list[Document]:
        """One document for each ordinal, in the order asked. Raises IndexError for an ordinal that there is none of."""
        asked = np.asarray(ordinals, dtype=np.int64).reshape(-1)
        if wrong := [int(one) for one in asked[(asked < 0) | (asked >= len(self))]]:
            raise IndexError(f"there is no document {wrong[0]}: the index has {len(self)}, counted from 0")
        found: dict[int, Document] = {}
        for segment, places, local in self.numbering.by_segment(self.numbering.stored(asked)):
            found |= zip(places.tolist(), self.stores[segment].by_ordinal(local.tolist()), strict=True)
        return [found[place] for place in range(len(asked))]

    def sized(self) -> Iterator[tuple[Document, int, int]]:
        """The documents by ordinal, each with its windows and tokens, as a DocumentWriter takes them."""
        for segment, store in enumerate(self.stores):
            own = np.delete(np.arange(len(store)), self.numbering.removed_from(segment))
            for first in range(0, len(own), _PAGE):
                page = own[first : first + _PAGE].tolist()
                for document, ordinal in zip(store.by_ordinal(page), page, strict=True):
                    yield document, *store.counted([ordinal])

    def by_id(self, document_id: str) -> Document | None:
        [ordinal] = self.ordinals([document_id])
        return None if ordinal is None else self.by_ordinal([ordinal])[0]

    def ordinals(self, document_ids: Sequence[str]) -> list[int | None]:
        """The ordinal of each id, in the order asked; None for one that there is not."""
        found: list[int | None] = [None] * len(document_ids)
        for segment, store in enumerate(self.stores):
            for place, local in enumerate(store.ordinals(document_ids)):
                if local is not None:
                    stored = np.array([local]) + self.numbering.firsts[segment]
                    if self.numbering.left(stored)[0]:
                        found[place] = int(self.numbering.given(stored)[0])
        return found

    def sources(self) -> dict[str, int]:
        """How many documents each source has, most first; documents without a source are not counted."""
        counted = Counter[str]()
        for segment, store in enumerate(self.stores):
            counted.update(store.sources())
            counted.subtract(store.sources_of(self.numbering.removed_from(segment).tolist()))
        left = {source: count for source, count in counted.items() if count}
        return dict(sorted(left.items(), key=lambda item: (-item[1], item[0])))

    def matching(self, where: Where) -> Int64[np.ndarray, " ordinals"]:
        """The ordinals of the documents that pass, in their order; what was asked lately is kept."""
        return self.stores[0].matching(where) if self.numbering.plain else self._matching(where.sql())

    def _scan(self, condition: Sql) -> Int64[np.ndarray, " ordinals"]:
        firsts, where = self.numbering.firsts, _Written(condition)
        stored = np.concatenate([store.matching(where) + firsts[n] for n, store in enumerate(self.stores)])
        found = self.numbering.given(stored[self.numbering.left(stored)])
        found.flags.writeable = False  # it is given to all who ask the same
        return found

    def close(self) -> None:
        for store in self.stores:
            store.close()


def numbering_of(folder: Path, manifest: Manifest) -> Numbering:
    """Which documents are left, of those that the segments store."""
    counts = tuple(segment.documents for segment in manifest.segments)
    removed = NOTHING if manifest.removed is None else load_removed(folder / manifest.removed.file.path, counts)
    return Numbering(counts, removed)


@contextmanager
def open_catalogue(folder: Path, manifest: Manifest) -> Iterator[Catalogue]:
    """The documents of an index, for programs that ask it nothing else."""
    work = Workspace(folder)
    stores = [DocumentStore(work.segment(segment.folder).documents) for segment in manifest.segments]
    there = Catalogue(stores, numbering_of(folder, manifest))
    try:
        yield there
    finally:
        there.close()
