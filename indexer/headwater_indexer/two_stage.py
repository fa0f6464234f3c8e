"""Two-stage search: signs in memory propose documents, whose stored rows are then scored exactly.

A document that is not proposed is not found; how seldom that happens is measured when the index is built
(`measured_recall`). Scores are those of the exact search. A percentile follows from a document's rank among those that
were scored: where a document above it was missed, it is too high by that one's share of all.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32

from headwater_indexer.best import best
from headwater_indexer.search import Hit, Ordinals, Queries, ScoreKind, Sign, hits, lengths
from headwater_indexer.signs.scan import SignScan

Scores = Float32[np.ndarray, "queries searched"]
CALIBRATED_TOP_K = 128  # the longest list that candidates are chosen for; longer ones take more in proportion


class Exact(Protocol):
    """Scores documents from what is stored of their rows."""

    def influences(self, queries: Queries, among: Ordinals | None = None) -> Scores: ...

    def few(self, query: Float32[np.ndarray, " width"], among: Ordinals) -> Float32[np.ndarray, " searched"]:
        """Of one query, for so few that they are gathered at once."""


class TwoStageSearch:
    """The documents of one segment. Any number of threads may search at once."""

    device = "cpu"

    def __init__(self, signs: SignScan, exact: Exact, *, candidates: int) -> None:
        """`candidates` are scored exactly for each query, for lists of up to CALIBRATED_TOP_K."""
        self._signs = signs
        self._exact = exact
        self._candidates = candidates
        self.norms = signs.norms
        self._threads = signs.threads
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="headwater-queries")
        self._sharing = ThreadPoolExecutor(self._threads, thread_name_prefix="headwater-candidates")

    def with_candidates(self, candidates: int) -> "TwoStageSearch":
        """The same documents, searched with more or less care."""
        return TwoStageSearch(self._signs, self._exact, candidates=candidates)

    def __len__(self) -> int:
        return len(self._signs)

    def influences(self, queries: Queries, among: Ordinals | None = None) -> Scores:
        """The influence of every document, or of those named, on every query: exact, by a pass over their rows."""
        return self._exact.influences(queries, among)

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
        """As FlatSearch, but that a document may be missed: the `top_k` of all, of `among`, or of all `without` some.

        Where few documents are searched, all of them are scored.
        """
        left_out = without if among is None and without is not None and len(without) else None
        count = (len(self) if among is None else len(among)) - (0 if left_out is None else len(left_out))
        top_k = min(top_k, count)
        if top_k == 0:
            return [[] for _ in queries]
        turned = queries if sign == "positive" else -queries
        candidates = max(top_k, self._candidates * -(-top_k // CALIBRATED_TOP_K))
        if count <= 2 * candidates:
            every = np.arange(len(self)) if among is None else among
            proposed = [every if left_out is None else np.delete(every, left_out)] * len(queries)
        else:
            mask = self._mask(among, left_out)
            proposed = self._signs.propose(turned, candidates=candidates, score=score, searched=mask)
        ranked = partial(self._ranked, top_k=top_k, score=score, sign=sign, searched=count)
        # A query alone has its candidates shared between the cores; of many, each core takes some.
        cores = self._threads if len(queries) < self._threads else 1
        return list(self._pool.map(lambda query, chosen: ranked(query, chosen, cores=cores), turned, proposed))

    def _mask(self, among: Ordinals | None, left_out: Ordinals | None) -> Bool[np.ndarray, " documents"] | None:
        """Which documents are searched; None for all."""
        if among is None and left_out is None:
            return None
        mask = np.full(len(self), among is None)
        mask[left_out if among is None else among] = among is not None
        return mask

    def _ranked(
        self,
        query: Float32[np.ndarray, " width"],
        ordinals: Ordinals,
        *,
        top_k: int,
        score: ScoreKind,
        sign: Sign,
        searched: int,
        cores: int,
    ) -> list[Hit]:
        """Candidates in the order of their exact scores."""
        parts = np.array_split(ordinals, cores)
        influences = list((self._sharing.map if cores > 1 else map)(partial(self._exact.few, query), parts))
        scores: Float[np.ndarray, "1 candidates"] = np.concatenate(influences)[None]
        if score != "influence":
            norms = self.norms[ordinals]
            scores = scores / np.where(norms > 0, norms, 1)
        if score == "cosine":
            scores = scores / lengths(query[None])
        [found] = hits(*best(scores, ordinals, top_k), searched=searched, sign=sign)
        return found
