"""Search over rows of few bits: every document's score estimated from its codes in one pass, queries in full precision.

The exact length of each row stands beside its codes, so that relatif and cosine divide by what is exact.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32, UInt8

from headwater_indexer.best import Best
from headwater_indexer.codes.coder import Coder, headers
from headwater_indexer.codes.plain import PlainRows
from headwater_indexer.search import NOTHING, Hit, Ordinals, Queries, Query, ScoreKind, Sign, hits, lengths
from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace

BLOCK_BYTES = 16 << 20  # of records scored at once
HEADERS_AT_ONCE = 4096  # records whose lengths are read together
QUERIES_AT_ONCE = 64  # whose tables are in memory together
Records = UInt8[np.ndarray, "rows bytes"]


def coded_store(work: Workspace, coder: Coder) -> ShardStore:
    """The folder's store of records, opened or begun."""
    return ShardStore(work.rows, width=coder.bytes, dtype="uint8")


def record_lengths(records: RowReader) -> Float32[np.ndarray, " documents"]:
    """The exact lengths of the rows; 0 for a document without gradient."""
    blocks = (headers(block)["norm"] for block in records.blocks(HEADERS_AT_ONCE))
    return np.concatenate([np.zeros(0, np.float32), *blocks])


class CodedSearch:
    """All scores of a query in one pass over the codes, which stay in their files until they are looked at."""

    device = "cpu"

    def __init__(
        self,
        coder: Coder | PlainRows,
        records: RowReader,
        norms: Float32[np.ndarray, " documents"] | None = None,
    ) -> None:
        """`norms` are the records' own, where they have been read already."""
        self._coder = coder
        self._records = records
        self._rows_at_once = max(1, BLOCK_BYTES // coder.bytes)
        self.norms = record_lengths(records) if norms is None else norms

    @classmethod
    def open(cls, coder: Coder, records: ShardStore) -> "CodedSearch":
        """Raises IndexDamaged for a shard that is missing or not as the store's manifest says."""
        return cls(coder, RowReader.open(records))

    def __len__(self) -> int:
        return len(self._records)

    def influences(self, queries: Queries, among: Ordinals | None = None) -> Float32[np.ndarray, "queries searched"]:
        """The estimated influence of every document, or of those named, on every query."""
        found = np.empty((len(queries), len(self) if among is None else len(among)), dtype=np.float32)
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            part, done = slice(first, first + QUERIES_AT_ONCE), 0
            for block, scores in self._scored(queries[part], among):
                found[part, done : done + len(block)] = scores
                done += len(block)
        return found

    def scoring(self, query: Query) -> Callable[[Ordinals], Float32[np.ndarray, " searched"]]:
        """The estimated influence on one query of the documents that are named then, a few at a time."""
        estimate = self._coder.scorer(query[None])
        return lambda among: np.concatenate(
            [np.zeros(0, np.float32), *(estimate(records)[0] for records in self._blocks(among))]
        )

    def _scored(
        self, queries: Queries, among: Ordinals | None
    ) -> Iterator[tuple[Ordinals, Float32[np.ndarray, "queries block"]]]:
        """Block by block, which documents they are and their influence on each query."""
        estimate, done = self._coder.scorer(queries), 0
        for records in self._blocks(among):
            block = slice(done, done + len(records))
            done = block.stop
            yield np.arange(block.start, done) if among is None else among[block], estimate(records)

    def _blocks(self, among: Ordinals | None) -> Iterator[Records]:
        if among is None:
            yield from self._records.blocks(self._rows_at_once)
            return
        for start in range(0, len(among), self._rows_at_once):
            yield self._records.gather(among[start : start + self._rows_at_once])

    def __call__(
        self,
        queries: Queries,
        *,
        top_k: int,
        score: ScoreKind,
        sign: Sign,
        among: Ordinals | None = None,
        without: Ordinals | None = None,
    ) -> list[list[Hit]]:
        """As FlatSearch: the `top_k` documents of each query, of all, of `among` or of all `without` some, the most
        influential first."""
        left_out = NOTHING if without is None else without
        searched = (len(self) if among is None else len(among)) - len(left_out)
        top_k = min(top_k, searched)
        if top_k == 0:
            return [[] for _ in queries]
        turned = queries if sign == "positive" else -queries
        found: list[list[Hit]] = []
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            part = turned[first : first + QUERIES_AT_ONCE]
            ranked = Best(len(part), top_k)
            for block, scores in self._scored(part, among):
                if score != "influence":
                    scores /= np.where(self.norms[block] > 0, self.norms[block], 1)
                if len(left_out):
                    scores[:, np.isin(block, left_out)] = -np.inf
                ranked.offer(scores, block)
            scores, ordinals = ranked.found()
            found += hits(
                scores / lengths(part) if score == "cosine" else scores, ordinals, searched=searched, sign=sign
            )
        return found
