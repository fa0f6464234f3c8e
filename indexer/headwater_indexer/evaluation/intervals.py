"""A mean over queries with its 95 % interval, by the bootstrap: queries drawn again with replacement."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """`low` and `high` bound the middle 95 % of the resampled means; both are the mean itself for a single query."""

    mean: float
    low: float
    high: float


def bootstrap(values: Float[np.ndarray, " queries"], *, seed: int = 0) -> Interval:
    """The mean of one value for each query. What is fixed for all queries (the documents, the models retrained) is not
    resampled, so the interval is about other queries of this kind, not about other corpora."""
    draw = np.random.default_rng(seed)
    means = values[draw.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))
