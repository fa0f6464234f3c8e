"""Words of signs in the form in which differing bits are counted with fewer counts: lines by threes.

At each place of three lines a, b, d, the sum of the bits in binary is a ^ b ^ d and the majority of the three:

    bits(a) + bits(b) + bits(d) = bits(s) + 2 bits(c)      s = a ^ b ^ d,  c = majority = ((a ^ b) | (a ^ d)) ^ s

Two counts do for three lines, and what they are made of are sums without carry. So rows and planes can be folded once,
and of a row's difference from a plane the folded lines are the differences of the folded lines.
"""

import numpy as np
from jaxtyping import UInt64

from headwater_indexer.signs.coder import LINE_WORDS

FOLDED = 3  # lines; those left over stay as they are
Words = UInt64[np.ndarray, "*rows words"]


# Which of three lines is changed by which, in this order; what is changed so twice is as it was.
_STEPS = ((2, 0), (2, 1), (0, 1), (1, 2))


def fold(words: Words) -> None:
    """In place, of whole lines: a, b, d become a ^ b, a ^ d, a ^ b ^ d."""
    _change(words, _STEPS)


def unfold(words: Words) -> None:
    """Takes back `fold`."""
    _change(words, _STEPS[::-1])


def _change(words: Words, steps: tuple[tuple[int, int], ...]) -> None:
    lines = words.reshape(*words.shape[:-1], -1, LINE_WORDS)
    last = lines.shape[-2] // FOLDED * FOLDED
    for changed, by in steps:
        lines[..., changed:last:FOLDED, :] ^= lines[..., by:last:FOLDED, :]
