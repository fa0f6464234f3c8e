"""The linear datamodeling score (Park et al., 2023, arXiv 2303.14186): do summed scores foretell retrained losses?"""

import numpy as np
from jaxtyping import Bool, Float, Float64


def lds(
    masks: Bool[np.ndarray, "subsets documents"],
    losses: Float[np.ndarray, "subsets queries"],
    scores: Float[np.ndarray, "queries documents"],
) -> Float64[np.ndarray, " queries"]:
    """For each query the rank correlation, over the retrained models, between the summed scores of the documents that
    a model saw and minus the query's loss. Scores are higher for documents that lower the loss."""
    predicted = masks.astype(np.float64) @ scores.T.astype(np.float64)
    return rank_correlations(predicted, -losses)


def seed_agreement(seed_losses: Float[np.ndarray, "subsets seeds queries"]) -> Float64[np.ndarray, " queries"]:
    """For each query the rank correlation of one retraining's losses with another's: what no score can much exceed.

    NaN with one seed, which says nothing of it."""
    if seed_losses.shape[1] < 2:
        return np.full(seed_losses.shape[2], np.nan)
    return rank_correlations(seed_losses[:, 0], seed_losses[:, 1])


def rank_correlations(
    left: Float[np.ndarray, "rows columns"], right: Float[np.ndarray, "rows columns"]
) -> Float64[np.ndarray, " columns"]:
    """Spearman's correlation of each column with its counterpart. A constant column orders nothing: 0."""
    a, b = (np.apply_along_axis(ranks, 0, side) for side in (left, right))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.asarray((a * b).sum(axis=0) / np.where(scale > 0, scale, 1))


def ranks(values: Float[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    """From 1; equal values share the mean of their places."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
