"""The searches of all segments as one: each finds its best, and the best of these are what one index would find."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Float32

from headwater_indexer.numbering import Numbering
from headwater_indexer.search import Hit, Ordinals, Queries, ScoreKind, Sign, percentile

Mapping = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


class Search(Protocol):
    """Searches the documents of a segment, which are numbered from its first."""

    @property
    def norms(self) -> Float[np.ndarray, " rows"]: ...

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

    def __init__(self, parts: Sequence[Search], numbering: Numbering, *, side_by_side: Mapping = map) -> None:
        """`side_by_side` maps a function over the parts, as `map` does: by threads, where they wait for others."""
        self._parts = parts
        self._numbering = numbering
        self._map = side_by_side
        self.norms: Float[np.ndarray, " documents"] = self._left(list(self._map(lambda part: part.norms, parts)))

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
        asked = self._asked(among)

        def search(one: tuple[int, dict[str, Ordinals]]) -> list[list[Hit]]:
            return self._parts[one[0]](queries, top_k=top_k, score=score, sign=sign, **one[1])

        for (segment, _), hits in zip(asked, self._map(search, asked), strict=True):
            first = int(self._numbering.firsts[segment])
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
            return self._left(list(self._map(lambda part: part.influences(queries), self._parts)))
        found = np.empty((len(queries), len(among)), dtype=np.float32)
        wanted = list(self._numbering.by_segment(self._numbering.stored(among)))
        scores = self._map(lambda one: self._parts[one[0]].influences(queries, one[2]), wanted)
        for (_, places, _), own in zip(wanted, scores, strict=True):
            found[:, places] = own
        return found
