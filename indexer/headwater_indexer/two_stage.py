"""Two-stage search: signs in memory propose documents, whose stored rows are then scored exactly.

A document that is not proposed is not found; how seldom that happens is measured when the index is built
(`measured_recall`). Scores are those of the exact search. A percentile follows from a document's rank among those that
were scored: where a document above it was missed, it is too high by that one's share of all.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32

from headwater_indexer.best import best
from headwater_indexer.search import Hit, Ordinals, Queries, Query, ScoreKind, Sign, hits, lengths
from headwater_indexer.signs.scan import Proposed, SignScan

Scores = Float32[np.ndarray, "queries searched"]
Scoring = Callable[[Ordinals], Float32[np.ndarray, " searched"]]
FIRST_ROUND = 64  # candidates at least, before it is asked whether more are needed
SHORT, LONG = 32, 128  # lists: up to SHORT a quarter of the candidates will do; beyond LONG more are taken


class Exact(Protocol):
    """Scores documents from what is stored of their rows."""

    def influences(self, queries: Queries, among: Ordinals | None = None) -> Scores: ...

    def scoring(self, query: Query) -> Scoring:
        """Of one query, prepared once, for documents that are gathered a few at a time."""


class TwoStageSearch:
    """The documents of one segment. Any number of threads may search at once."""

    device = "cpu"

    def __init__(self, signs: SignScan, exact: Exact, *, candidates: int) -> None:
        """So many `candidates` are proposed for lists of up to LONG, and scored while they may be among the best."""
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
        share = 0.25 if top_k <= SHORT else -(-top_k // LONG)
        candidates = max(top_k, int(self._candidates * share))
        if count <= 2 * candidates:
            every = np.arange(len(self)) if among is None else among
            chosen = every if left_out is None else np.delete(every, left_out)
            proposed = [Proposed(chosen, np.full(len(chosen), np.inf))] * len(queries)
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
        query: Query,
        proposed: Proposed,
        *,
        top_k: int,
        score: ScoreKind,
        sign: Sign,
        searched: int,
        cores: int,
    ) -> list[Hit]:
        """Candidates in the order of their exact scores: of as many as may still be among the best, in rounds."""
        ordinals, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
        scoring = self._exact.scoring(query)
        bounds = proposed.bounds
        stop = len(bounds) if np.isinf(bounds[0]) else max(FIRST_ROUND, 4 * top_k)
        while len(ordinals) < stop:
            block = np.sort(proposed.ordinals[len(ordinals) : stop])
            found = self._scores(scoring, block, score, cores)
            ordinals, scores = np.concatenate([ordinals, block]), np.concatenate([scores, found])
            reached = np.partition(scores, -top_k)[-top_k]
            # As many more as may be above that, and no more than there were, for they may raise it.
            stop = min(2 * len(ordinals), int(np.searchsorted(-bounds, -reached)))
        order = np.argsort(ordinals)
        if score == "cosine":
            scores = scores / lengths(query[None])[0]
        [ranked] = hits(*best(scores[None, order], ordinals[order], top_k), searched=searched, sign=sign)
        return ranked

    def _scores(
        self, scoring: Scoring, ordinals: Ordinals, score: ScoreKind, cores: int
    ) -> Float32[np.ndarray, " candidates"]:
        """Influence, or relatif."""
        parts = np.array_split(ordinals, cores)
        influences = np.concatenate(list((self._sharing.map if cores > 1 else map)(scoring, parts)))
        norms = self.norms[ordinals]
        return influences if score == "influence" else influences / np.where(norms > 0, norms, 1)
