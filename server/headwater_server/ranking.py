"""Scores into ranks and histograms: of all documents, and of candidates that were scored again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headwater.types import AttributeRequest, Histogram, Score
from headwater_indexer.best import best
from headwater_indexer.search import hits

if TYPE_CHECKING:
    from headwater_indexer.index import Index

BINS = 48  # of a histogram


class Ranked(Protocol):
    """One document found, as the index's search tells it."""

    @property
    def ordinal(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def percentile(self) -> float: ...


def ranked(
    scores: np.ndarray, among: np.ndarray, top_k: int, *, positive: bool = True, searched: int | None = None
) -> Sequence[Ranked]:
    """The best of the documents `among`, whose scores these are: what a search for them finds, among so many that were
    `searched` (those alone, where it is not said)."""
    top_k = min(top_k, len(among))
    if top_k == 0:
        return []
    turned = scores[None] if positive else -scores[None]
    count = len(among) if searched is None else searched
    return hits(*best(turned, among, top_k), searched=count, sign="positive" if positive else "negative")[0]


def all_scores(index: "Index", row: np.ndarray, score: Score, among: np.ndarray) -> np.ndarray:
    """Of the documents `among`, by a pass over their rows."""
    whole = len(among) == len(index.documents)
    [influences] = index.influences(row[None], None if whole else among)
    scores: np.ndarray = influences / _lengths(score, index, row, among)
    return scores


def histogram(scores: np.ndarray) -> Histogram | None:
    """None where there is no score."""
    if not len(scores):
        return None
    counts, edges = np.histogram(scores.astype(np.float64), BINS)
    return Histogram(low=float(edges[0]), high=float(edges[-1]), counts=counts.tolist())


def rescored(
    question: AttributeRequest,
    index: "Index",
    row: np.ndarray,
    ordinals: Sequence[int],
    influences: np.ndarray,
    *,
    searched: int,
) -> Sequence[Ranked]:
    """Candidates in the order of their new scores: influence, over the same lengths as the score that found them."""
    scores = np.asarray(influences, dtype=np.float64) / _lengths(question.score, index, row, ordinals)
    positive = question.sign == "positive"
    return ranked(scores, np.asarray(ordinals), question.top_k, positive=positive, searched=searched)


def _lengths(score: Score, index: "Index", row: np.ndarray, ordinals: Sequence[int] | np.ndarray) -> np.ndarray:
    if score == "influence":
        return np.ones(len(ordinals))
    lengths = index.norms[np.asarray(ordinals)].astype(np.float64)
    if score == "cosine":
        lengths = lengths * np.linalg.norm(row)
    return np.where(lengths > 0, lengths, 1.0)
