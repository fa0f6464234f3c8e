"""Search over rows of few bits: every document's score estimated from its codes in one pass, queries in full precision.

The exact length of each row stands beside its codes, so that relatif and cosine divide by what is exact.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from headwater_indexer.codes.coder import Coder, headers
from headwater_indexer.search import NOTHING, Hit, ScoreKind, Sign, best, hits, lengths
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace

BLOCK_BYTES = 16 << 20  # of decoded rows scored at once
QUERIES_AT_ONCE = 64  # whose tables are in memory together


def coded_store(work: Workspace, coder: Coder) -> ShardStore:
    """The folder's store of records, opened or begun."""
    return ShardStore(work.rows, width=coder.bytes, dtype="uint8")


class CodedSearch:
    """All scores of a query in one pass over the codes, which stay in their files until they are looked at."""

    device = "cpu"

    def __init__(self, coder: Coder, shards: Sequence[UInt8[np.ndarray, "rows bytes"]], width: int) -> None:
        self._coder = coder
        self._shards = [shard for shard in shards if len(shard)]
        self._step = max(1, BLOCK_BYTES // (4 * width))
        self.norms = np.concatenate([headers(shard)["norm"] for shard in self._shards] or [np.zeros(0, np.float32)])

    @classmethod
    def open(cls, coder: Coder, records: ShardStore, width: int) -> "CodedSearch":
        """Raises IndexDamaged for a shard that is missing or not as the store's manifest says."""
        return cls(coder, [records.mapped(shard) for shard in records.manifest.shards], width)

    def __len__(self) -> int:
        return len(self.norms)

    def influences(
        self, queries: Float32[np.ndarray, "queries width"], among: Int64[np.ndarray, " ordinals"] | None = None
    ) -> Float32[np.ndarray, "queries searched"]:
        """The estimated influence of every document, or of those named, on every query."""
        searched = len(self) if among is None else len(among)
        found = np.empty((len(queries), searched), dtype=np.float32)
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            part = slice(first, first + QUERIES_AT_ONCE)
            estimate = self._coder.scorer(queries[part])
            done = 0
            for block in self._blocks(among):
                found[part, done : done + len(block)] = estimate(block)
                done += len(block)
        return found

    def _blocks(self, among: Int64[np.ndarray, " ordinals"] | None) -> Iterator[UInt8[np.ndarray, "rows bytes"]]:
        if among is not None:
            yield from (self._gathered(among[n : n + self._step]) for n in range(0, len(among), self._step))
            return
        for shard in self._shards:
            yield from (shard[n : n + self._step] for n in range(0, len(shard), self._step))

    def _gathered(self, ordinals: Int64[np.ndarray, " ordinals"]) -> UInt8[np.ndarray, "rows bytes"]:
        """The records of documents anywhere in the shards, in the order asked for."""
        records = np.empty((len(ordinals), self._coder.bytes), dtype=np.uint8)
        first = 0
        for shard in self._shards:
            here = (ordinals >= first) & (ordinals < first + len(shard))
            records[here] = shard[ordinals[here] - first]
            first += len(shard)
        return records

    def __call__(
        self,
        queries: Float32[np.ndarray, "queries width"],
        *,
        top_k: int,
        score: ScoreKind,
        sign: Sign,
        among: Int64[np.ndarray, " ordinals"] | None = None,
        without: Int64[np.ndarray, " ordinals"] | None = None,
    ) -> list[list[Hit]]:
        """As FlatSearch: the `top_k` documents of each query, of all, of `among` or of all `without` some, the most
        influential first."""
        chosen = np.arange(len(self)) if among is None else among
        left_out = NOTHING if without is None else without
        searched = len(chosen) - len(left_out)
        top_k = min(top_k, searched)
        if top_k == 0:
            return [[] for _ in queries]
        scores = self.influences(queries if sign == "positive" else -queries, among)
        if score != "influence":
            norms = self.norms[chosen]
            scores = scores / np.where(norms > 0, norms, 1)
        if score == "cosine":
            scores = scores / lengths(queries)
        scores[:, left_out] = -np.inf
        return hits(*best(scores, chosen, top_k), searched=searched, sign=sign)
