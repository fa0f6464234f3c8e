"""Codebooks of 256 words for blocks of columns: fitted to what whitened rows look like anywhere, never to rows.

Whitened columns have equal variance and, in every corpus that was looked at, tails a little heavier than a Gaussian's
(kurtosis 4 within a row). A codebook made for that source serves every index, and nothing is learned from documents.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

WORDS = 256  # one byte names a word
LONGEST_BLOCK = 128  # columns; beyond, one byte would have to name more than one of 256 signed places
_LONGEST_FITTED = 64  # columns; beyond, words of one signed place each hold more than fitted ones do
_SAMPLES, _ROUNDS = 32_768, 16
_DEGREES = 10  # of freedom of Student's t, whose kurtosis is then 4
_SEED = 0


@cache
def codebook(block: int) -> Float[Tensor, "words block"]:
    """The words for blocks of this many columns of unit variance, in float32; the same at every call on a machine.

    1 or 2 columns   the best levels of each column by itself (Lloyd and Max): 8 or 4 bits a column
    3 to 64 columns  k-means over draws of the source
    beyond           the place and sign of one column; fewer than 256 words below 128 columns
    """
    if not 1 <= block <= LONGEST_BLOCK:
        raise ValueError(f"a block of {block} columns: from 1 to {LONGEST_BLOCK} can be coded in a byte")
    if block <= 2:
        levels = _fitted(round(WORDS ** (1 / block)), _draws(_SAMPLES, 1))[:, 0].sort().values
        return torch.cartesian_prod(*[levels] * block).reshape(WORDS, block)
    if block <= _LONGEST_FITTED:
        return _fitted(WORDS, _draws(_SAMPLES, block))
    return torch.cat([torch.eye(block), -torch.eye(block)])


def levels_of(book: Float[Tensor, "words block"]) -> Float[Tensor, " levels"] | None:
    """The levels of a codebook that rounds each column by itself, ascending; None for any other."""
    return book[:, -1].unique() if book.shape[1] <= 2 else None


def _draws(count: int, block: int) -> Float[Tensor, "count block"]:
    """Independent draws of Student's t with unit variance: a Gaussian over the root of a chi-square."""
    generator = torch.Generator().manual_seed(_SEED)
    gaussian = torch.randn(count, block, generator=generator)
    chi_square = sum(torch.randn(count, block, generator=generator).square() for _ in range(_DEGREES))
    assert isinstance(chi_square, Tensor)  # noqa: S101 - the sum of tensors, for the type checker
    return gaussian * (chi_square / (_DEGREES - 2)).rsqrt()


def _fitted(words: int, draws: Float[Tensor, "count block"]) -> Float[Tensor, "words block"]:
    """Lloyd's k-means, begun with draws spread evenly; a word that no draw chooses stays where it was."""
    ordered = draws[draws[:, 0].argsort()] if draws.shape[1] == 1 else draws
    book = ordered[:: len(draws) // words][:words].clone()
    for _ in range(_ROUNDS if draws.shape[1] > 1 else 8 * _ROUNDS):
        chosen = nearest(draws, book)
        sums = torch.zeros_like(book).index_add_(0, chosen, draws)
        counts = torch.bincount(chosen, minlength=words)[:, None]
        book = torch.where(counts > 0, sums / counts.clamp(min=1), book)
    return book


def nearest(blocks: Float[Tensor, "count block"], book: Float[Tensor, "words block"]) -> Tensor:
    """The number of the nearest word of each block, int64 [count]."""
    return torch.addmm(-0.5 * book.square().sum(1), blocks, book.T).argmax(1)
