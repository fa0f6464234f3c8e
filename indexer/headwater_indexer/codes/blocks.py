"""Scores of many queries: some rows are decoded at a time, and multiplied with all queries at once."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from headwater_indexer.codes.codes import Scorer

_DECODED_BYTES = 16 << 20  # of rows decoded at once

Decoding = Callable[[UInt8[np.ndarray, "rows bytes"]], Float[Tensor, "rows places"]]


def product_of_decoded(decode: Decoding, queries: Float[Tensor, "queries places"]) -> Scorer:
    """`queries` have their columns in the places that decoded rows have them in."""
    at_once = max(1, _DECODED_BYTES // (4 * queries.shape[1]))
    by_place = queries.T.contiguous()  # few rows are multiplied twice as quickly so

    def score(codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows queries"]:
        starts = range(0, max(len(codes), 1), at_once)
        return torch.cat([decode(codes[start : start + at_once]) @ by_place for start in starts])

    return score
