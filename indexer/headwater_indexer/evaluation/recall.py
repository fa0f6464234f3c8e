"""Recall of known sources: where a question's own document, or the documents of its source, stand in the ranking."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from headwater_indexer.scores import Query

DEPTHS = (1, 10, 100)


def known_sources(
    queries: Sequence[Query], ids: Sequence[str], sources: Sequence[str | None]
) -> Bool[np.ndarray, "queries documents"]:
    """Which documents are each query's source: the one that `source_id` names, or all those of its `source`."""
    by_id = {document_id: ordinal for ordinal, document_id in enumerate(ids)}
    relevant = np.zeros((len(queries), len(ids)), dtype=bool)
    for row, query in zip(relevant, queries, strict=True):
        if query.source_id in by_id:
            row[by_id[query.source_id]] = True
        elif query.source_id is None and query.source is not None:
            row[[source == query.source for source in sources]] = True
    return relevant


def first_places(
    scores: Float[np.ndarray, "queries documents"], relevant: Bool[np.ndarray, "queries documents"]
) -> Int64[np.ndarray, " queries"]:
    """The place, from 1, of the best of each query's relevant documents. Others of an equal score stand before it."""
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(1 + ((scores >= best) & ~relevant).sum(axis=1))


def recall_figures(places: Int64[np.ndarray, " queries"]) -> dict[str, Float64[np.ndarray, " queries"]]:
    """For each query: whether its source is among the first 1, 10, 100, and one over its place (whose mean is MRR)."""
    figures = {f"recall@{depth}": (places <= depth).astype(np.float64) for depth in DEPTHS}
    return figures | {"mrr": 1.0 / places}
