"""The levels that a column is rounded to: fitted to what whitened rows look like anywhere, never to rows.

Whitened columns have equal variance and, in every corpus that was looked at, tails a little heavier than a Gaussian's
(kurtosis 4 within a row). Levels made for that source serve every index, and nothing is learned from documents.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

_SAMPLES, _ROUNDS = 32_768, 128
_DEGREES = 10  # of freedom of Student's t, whose kurtosis is then 4
_SEED = 0


@cache
def best_levels(count: int) -> Float[Tensor, " levels"]:
    """So many levels for a column of variance 1, ascending, by Lloyd and Max; the same at every call on a machine."""
    draws = _draws().sort().values
    levels = draws[:: len(draws) // count][:count].clone()
    for _ in range(_ROUNDS):
        chosen = torch.bucketize(draws, (levels[1:] + levels[:-1]) / 2)
        sums = torch.zeros_like(levels).index_add_(0, chosen, draws)
        counts = torch.bincount(chosen, minlength=count)
        levels = torch.where(counts > 0, sums / counts.clamp(min=1), levels)
    return levels


def _draws() -> Float[Tensor, " samples"]:
    """Independent draws of Student's t with unit variance: a Gaussian over the root of a chi-square."""
    generator = torch.Generator().manual_seed(_SEED)
    gaussian = torch.randn(_SAMPLES, generator=generator)
    chi_square = torch.randn(_SAMPLES, _DEGREES, generator=generator).square().sum(1)
    return gaussian * (chi_square / (_DEGREES - 2)).rsqrt()
