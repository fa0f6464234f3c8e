"""The words of a trellis: which one a step has, by the fourteen bits up to and with its own.

The highest of the fourteen bits is the word's sign; the other thirteen name its two halves, each by nine bits, the four
newest in both: 2 x 512 random halves make 16,384 words that are nearly as good as independent ones, at a sixteenth of
the products, and opposite words join where paths meet.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

STEPS_IN_BYTE = 2
CHOICES = 16  # of a step: four bits
WINDOWS = 1 << 14
STATES = WINDOWS // CHOICES  # the ten bits before a step's own
BYTES_BEFORE = 2  # that take part in a step's window before the byte of its own
POSITIVE = WINDOWS // 2  # windows below this have the sign +
HALVES = 512
MIDDLES = STATES // CHOICES  # what states have in common whose windows lead to the same states
OLDEST = CHOICES // 2  # of a window, without its sign


def random_halves(longest: int, bits_a_column: float, seed: int) -> Float[Tensor, "2 halves columns"]:
    """Of words of up to `longest` columns: Gaussian, of the variance that the best code of a Gaussian of variance 1
    has, 1 - 2^-2R."""
    drawn = torch.randn(2, HALVES, -(-longest // 2), generator=torch.Generator().manual_seed(seed))
    deviation: float = (1 - 4**-bits_a_column) ** 0.5
    return drawn * deviation


def first_half(window: Any) -> Any:
    """By bits 8 to 12 and the four newest. `window` is an integer, or many in an array or a tensor."""
    return ((window >> 4) & 0b111110000) | (window & 15)


def second_half(window: Any) -> Any:
    """By bits 4 to 7, 10 and the four newest, as `first_half`."""
    return ((window >> 2) & 0b100000000) | (window & 0b11111111)


def windows(codes: UInt8[np.ndarray, "rows bytes"]) -> Int32[np.ndarray, "rows steps"]:
    """The window of each step: its four bits behind the ten before them, zeros before the first."""
    named = np.empty((len(codes), codes.shape[1], STEPS_IN_BYTE), dtype=np.int32)
    here = np.pad(codes, ((0, 0), (BYTES_BEFORE, 0))).astype(np.int32)
    whole = (here[:, :-2] << 16) | (here[:, 1:-1] << 8) | here[:, 2:]
    named[:, :, 0] = (whole >> 4) & (WINDOWS - 1)
    named[:, :, 1] = whole & (WINDOWS - 1)
    return named.reshape(len(codes), -1)
