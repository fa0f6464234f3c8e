"""Scores into ranks and histograms: of all documents, and of candidates that were scored again."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Place:
    ordinal: int
    score: float
    percentile: float


def rank(scores: np.ndarray, among: np.ndarray, top_k: int) -> list[Place]:
    """The best of these documents by the scores of all."""
    own = scores[among]
    order = np.argsort(-own, kind="stable")[:top_k]
    return [
        Place(int(among[place]), float(own[place]), 100.0 * (len(own) - number) / len(own))
        for number, place in enumerate(order, start=1)
    ]


def by_influence(scores: np.ndarray, among: np.ndarray, top_k: int, *, positive: bool) -> Sequence[Ranked]:
    """The best of the documents `among`, whose scores these are: what a search for them finds."""
    top_k = min(top_k, len(among))
    if top_k == 0:
        return []
    turned = scores[None] if positive else -scores[None]
    return hits(*best(turned, among, top_k), searched=len(among), sign="positive" if positive else "negative")[0]


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
) -> list[Place]:
    """Candidates in the order of their new scores: influence, over the same lengths as the score that found them."""
    positive = question.sign == "positive"
    scores = np.asarray(influences, dtype=np.float64) / _lengths(question.score, index, row, ordinals)
    order = np.argsort(-scores if positive else scores, kind="stable")[: question.top_k]
    return [
        Place(
            ordinals[place],
            float(scores[place]),
            100.0 * ((searched - number) if positive else (number - 1)) / searched,
        )
        for number, place in enumerate(order, start=1)
    ]


def _lengths(score: Score, index: "Index", row: np.ndarray, ordinals: Sequence[int] | np.ndarray) -> np.ndarray:
    if score == "influence":
        return np.ones(len(ordinals))
    lengths = index.norms[np.asarray(ordinals)].astype(np.float64)
    if score == "cosine":
        lengths = lengths * np.linalg.norm(row)
    return np.where(lengths > 0, lengths, 1.0)
