"""Columns rounded one by one: to 16, 8 or 4 bits."""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from headwater_indexer import compiling
from headwater_indexer.codes.blocks import product_of_decoded
from headwater_indexer.codes.codes import RowScorer, Scorer
from headwater_indexer.codes.levels import best_levels
from headwater_indexer.codes.walk import Walk
from headwater_indexer.codes.walk import decode as levels_of


class HalfCodes:
    """Every column in float16."""

    def __init__(self, width: int) -> None:
        self._width = width

    @property
    def bytes(self) -> int:
        return 2 * self._width

    def encode(self, rows: Float[Tensor, "rows width"]) -> tuple[Tensor, Float64[Tensor, " rows"]]:
        halves = rows.half()
        return halves.view(torch.uint8), (halves.float() * rows).sum(1).double()

    def scorer(self, queries: Float[Tensor, "queries width"]) -> Scorer:
        def decode(codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows width"]:
            return torch.from_numpy(np.ascontiguousarray(codes).view(np.float16)).float()

        return product_of_decoded(decode, queries)

    def quick_scorer(self, query: Float[Tensor, " width"]) -> None:  # noqa: ARG002
        """A product of matrices is as quick."""
        return

    def decode(self, codes: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows width"]:
        return codes.contiguous().view(torch.float16).float()

    def tensors(self) -> dict[str, Tensor]:
        return {"width": torch.tensor(self._width)}


class LevelCodes:
    """Columns in a random order, each at the nearest of 256 levels in a byte, or of 16 in half a byte."""

    def __init__(self, order: Int64[Tensor, " columns"], levels: Float[Tensor, " levels"], width: int) -> None:
        self._order = order
        self._levels = levels
        self._width = width
        self._in_byte = 1 if len(levels) > 16 else 2

    @classmethod
    def make(cls, order: Int64[Tensor, " columns"], width: int, *, in_byte: int) -> "LevelCodes":
        return cls(order, best_levels(round(256 ** (1 / in_byte))), width)

    @property
    def bytes(self) -> int:
        return -(-len(self._order) // self._in_byte)

    def encode(self, rows: Float[Tensor, "rows width"]) -> tuple[Tensor, Float64[Tensor, " rows"]]:
        chosen = torch.bucketize(self._picked(rows), (self._levels[1:] + self._levels[:-1]) / 2)
        codes = chosen.to(torch.uint8)
        along = (self._at_levels(chosen) * rows).sum(1).double()
        return codes if self._in_byte == 1 else codes[:, 0::2] * 16 + codes[:, 1::2], along

    def _picked(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows places"]:
        """The columns in their order, zeros after the last."""
        return functional.pad(rows[:, self._order], (0, self.bytes * self._in_byte - len(self._order)))

    def scorer(self, queries: Float[Tensor, "queries width"]) -> Scorer:
        named = torch.cartesian_prod(*[self._levels] * self._in_byte).reshape(256, self._in_byte)

        def decode(codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows places"]:
            if compiling.has_numba():
                return torch.from_numpy(levels_of(named.numpy(), codes))
            return functional.embedding(torch.from_numpy(codes.astype(np.int32)), named).flatten(1)

        return product_of_decoded(decode, self._picked(queries))

    def quick_scorer(self, query: Float[Tensor, " width"]) -> RowScorer:
        """Scores rows for one query by a kernel of numba's."""
        return Walk(self._levels.numpy(), self._picked(query[None]).reshape(-1, self._in_byte).numpy())

    def decode(self, codes: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows width"]:
        whole = codes.long()
        return self._at_levels(whole if self._in_byte == 1 else torch.stack([whole // 16, whole % 16], 2).flatten(1))

    def _at_levels(self, chosen: Int64[Tensor, "rows places"]) -> Float[Tensor, "rows width"]:
        """The columns at these levels; zeros in those that are not coded."""
        decoded = self._levels.new_zeros(len(chosen), self._width)
        decoded[:, self._order] = self._levels[chosen[:, : len(self._order)]]
        return decoded

    def tensors(self) -> dict[str, Tensor]:
        return {"order": self._order.int(), "levels": self._levels, "width": torch.tensor(self._width)}
