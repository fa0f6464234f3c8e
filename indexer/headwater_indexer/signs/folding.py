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


def fold(words: Words) -> None:
    """In place, of whole lines: a, b, d become a ^ b, a ^ d, a ^ b ^ d."""
    first, second, third = _threes(words)
    third ^= first
    third ^= second
    first ^= second
    second ^= third


def unfold(words: Words) -> None:
    """Takes back `fold`."""
    first, second, third = _threes(words)
    second ^= third
    first ^= second
    third ^= first
    third ^= second


def _threes(words: Words) -> list[UInt64[np.ndarray, "*rows threes line"]]:
    lines = words.reshape(*words.shape[:-1], -1, LINE_WORDS)
    last = lines.shape[-2] // FOLDED * FOLDED
    return [lines[..., place:last:FOLDED, :] for place in range(FOLDED)]
