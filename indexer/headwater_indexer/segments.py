"""The searches of all segments as one: each finds its best, and the best of these are what one index would find."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Int64

from headwater_indexer.numbering import Numbering
from headwater_indexer.search import Hit, ScoreKind, Sign, percentile

Queries = Float32[np.ndarray, "queries width"]
Ordinals = Int64[np.ndarray, " ordinals"]


class Search(Protocol):
    """Searches the documents of a segment, which are numbered from its first."""

    norms: Float[np.ndarray, " rows"]

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
        """The `top_k` documents of each query, of all or of `among`, the most influential first; never one of
        `without`, which comes without `among`."""

    def influences(
        self, queries: Queries, among: Ordinals | None = None
    ) -> Float32[np.ndarray, "queries searched"]: ...


class SegmentedSearch:
    """Ordinals are those that are given to the documents that are left."""

    def __init__(self, parts: Sequence[Search], numbering: Numbering) -> None:
        self._parts = parts
        self._numbering = numbering
        self.norms: Float[np.ndarray, " documents"] = self._left([part.norms for part in parts])

    def _left(self, by_segment: Sequence[Float[np.ndarray, "*lead rows"]]) -> Float[np.ndarray, "*lead documents"]:
        """Values of the documents that are left, from those of all that are stored."""
        if self._numbering.plain:
            return by_segment[0]
        stored = np.concatenate(by_segment, axis=-1)
        return np.delete(stored, self._numbering.removed, axis=-1)

    def __call__(
        self, queries: Queries, *, top_k: int, score: ScoreKind, sign: Sign, among: Ordinals | None = None
    ) -> list[list[Hit]]:
        """The `top_k` documents of each query, the most influential first; fewer when fewer are searched."""
        if self._numbering.plain:
            return self._parts[0](queries, top_k=top_k, score=score, sign=sign, among=among)
        found: list[list[Hit]] = [[] for _ in queries]
        for segment, asked in self._asked(among):
            first = int(self._numbering.firsts[segment])
            hits = self._parts[segment](queries, top_k=top_k, score=score, sign=sign, **asked)
            for own, more in zip(found, hits, strict=True):
                own += [replace(hit, ordinal=hit.ordinal + first) for hit in more]
        searched = len(self.norms) if among is None else len(among)
        return [self._ranked(hits, top_k, searched, sign) for hits in found]

    def _asked(self, among: Ordinals | None) -> list[tuple[int, dict[str, Ordinals]]]:
        """Which documents of each segment are searched: some, or all but those that were removed."""
        if among is not None:
            stored = self._numbering.stored(among)
            return [(segment, {"among": local}) for segment, _, local in self._numbering.by_segment(stored)]
        every = range(len(self._parts))
        return [(segment, {"without": self._numbering.removed_from(segment)}) for segment in every]

    def _ranked(self, hits: list[Hit], top_k: int, searched: int, sign: Sign) -> list[Hit]:
        """The best of all segments, numbered as they are given, with their percentiles among all that was searched."""
        best = sorted(hits, key=lambda hit: hit.score, reverse=sign == "positive")[:top_k]
        given = self._numbering.given(np.array([hit.ordinal for hit in best], dtype=np.int64))
        return [
            Hit(ordinal=int(ordinal), score=hit.score, percentile=percentile(rank, searched, sign))
            for rank, (ordinal, hit) in enumerate(zip(given, best, strict=True), start=1)
        ]

    def influences(self, queries: Queries, among: Ordinals | None = None) -> Float32[np.ndarray, "queries searched"]:
        """The influence of every document that is left, or of those of `among`, on every query."""
        if among is None:
            return self._left([part.influences(queries) for part in self._parts])
        found = np.empty((len(queries), len(among)), dtype=np.float32)
        for segment, places, local in self._numbering.by_segment(self._numbering.stored(among)):
            found[:, places] = self._parts[segment].influences(queries, local)
        return found
