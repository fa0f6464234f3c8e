"""Query loss difference: retrain without the documents found, and see by how much the query's loss grows.

The counterfactual itself, at the price of one training for each query, method and seed.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64, Int64

from headwater_indexer.evaluation.retraining import Retrainings

SHARE = 0.01  # of all documents, taken out


def most_influential(scores: Float[np.ndarray, "queries documents"], count: int) -> Int64[np.ndarray, "queries count"]:
    """The ordinals of each query's best documents, the best first; of equal scores the earlier document."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def query_loss_differences(
    runs: Retrainings,
    scores: Float[np.ndarray, "queries documents"],
    *,
    share: float = SHARE,
    seeds: int,
    each: Callable[[], None] = lambda: None,
) -> Float64[np.ndarray, " queries"]:
    """For each query the growth of its loss, in nats summed over the response, when its best `share` of the documents
    (at least one) is left out; the mean over `seeds` trainings, each compared with one on everything of that seed."""
    documents = scores.shape[1]
    removed = most_influential(scores, max(1, round(share * documents)))
    everything = np.ones(documents, dtype=bool)
    differences = np.zeros((seeds, len(scores)))
    for seed in range(seeds):
        for query, ordinals in enumerate(removed):
            left = everything.copy()
            left[ordinals] = False
            differences[seed, query] = runs.losses(left, seed)[query] - runs.losses(everything, seed)[query]
            each()
    return np.asarray(differences.mean(axis=0))
