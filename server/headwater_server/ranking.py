"""Scores into ranks: of a baseline over all documents, and of candidates that were scored again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headwater.types import AttributeRequest

if TYPE_CHECKING:
    from headwater_indexer.index import Index


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
    best = np.argsort(-own, kind="stable")[:top_k]
    return [
        Place(int(among[place]), float(own[place]), 100.0 * (len(own) - number) / len(own))
        for number, place in enumerate(best, start=1)
    ]


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
    scores = np.asarray(influences, dtype=np.float64) / _lengths(question, index, row, ordinals)
    best = np.argsort(-scores if positive else scores, kind="stable")[: question.top_k]
    return [
        Place(
            ordinals[place],
            float(scores[place]),
            100.0 * ((searched - number) if positive else (number - 1)) / searched,
        )
        for number, place in enumerate(best, start=1)
    ]


def _lengths(question: AttributeRequest, index: "Index", row: np.ndarray, ordinals: Sequence[int]) -> np.ndarray:
    if question.score == "influence":
        return np.ones(len(ordinals))
    lengths = index.norms[list(ordinals)].astype(np.float64)
    if question.score == "cosine":
        lengths = lengths * np.linalg.norm(row)
    return np.where(lengths > 0, lengths, 1.0)
