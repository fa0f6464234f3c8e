"""The best of many scores that come block by block: what a search holds does not grow with the documents."""

import numpy as np
from jaxtyping import Float, Float32, Int64

_AT_ONCE = 4_096  # scores of a query that are looked at together
_PENDING = 4_096  # that wait to be ranked together


def best(
    scores: Float[np.ndarray, "queries searched"], ordinals: Int64[np.ndarray, " searched"], top_k: int
) -> tuple[Float[np.ndarray, "queries top_k"], Int64[np.ndarray, "queries top_k"]]:
    """The highest scores of each query, in falling order, and whose they are; the first of equal ones comes first."""
    places = _places(scores, top_k)
    return np.take_along_axis(scores, places, axis=1), ordinals[places]


def _places(scores: Float[np.ndarray, "queries searched"], top_k: int) -> Int64[np.ndarray, "queries top_k"]:
    if top_k < scores.shape[1]:
        found = np.sort(np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k], axis=1)
    else:
        found = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


class Best:
    """The `top_k` highest scores of each query so far."""

    def __init__(self, queries: int, top_k: int) -> None:
        self._top_k = top_k
        self._scores: list[Float[np.ndarray, "queries block"]] = [np.empty((queries, 0), dtype=np.float32)]
        self._ordinals: list[Int64[np.ndarray, "queries block"]] = [np.empty((queries, 0), dtype=np.int64)]
        self._pending = 0
        self._least: Float[np.ndarray, "queries 1"] = np.full((queries, 1), -np.inf, dtype=np.float32)

    def offer(self, scores: Float[np.ndarray, "queries block"], ordinals: Int64[np.ndarray, " block"]) -> None:
        """The scores of these documents, which come in the order of equal ones."""
        for start in range(0, len(ordinals), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            self._offer(scores[:, part], ordinals[part])

    def _offer(self, scores: Float[np.ndarray, "queries block"], ordinals: Int64[np.ndarray, " block"]) -> None:
        # Comparing is much quicker than ranking, and of later blocks little is left.
        if np.isfinite(self._least).all():
            above = (scores > self._least).any(axis=0)
            scores, ordinals = scores[:, above], ordinals[above]
        self._scores.append(scores)
        self._ordinals.append(np.broadcast_to(ordinals, scores.shape))
        self._pending += len(ordinals)
        if self._pending >= max(_PENDING, 2 * self._top_k):
            self._reduce()

    def _reduce(self) -> None:
        scores, ordinals = np.concatenate(self._scores, axis=1), np.concatenate(self._ordinals, axis=1)
        places = _places(scores, min(self._top_k, scores.shape[1]))
        self._scores = [np.take_along_axis(scores, places, axis=1)]
        self._ordinals = [np.take_along_axis(ordinals, places, axis=1)]
        self._pending = 0
        if self._scores[0].shape[1] == self._top_k:
            self._least = self._scores[0][:, -1:]

    def found(self) -> tuple[Float32[np.ndarray, "queries top_k"], Int64[np.ndarray, "queries top_k"]]:
        """Scores in falling order, and whose they are; the first of equal ones comes first."""
        self._reduce()
        return self._scores[0], self._ordinals[0]
