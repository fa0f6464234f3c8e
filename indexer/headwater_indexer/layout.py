"""Where each layer's numbers lie in a row: layer after layer, each [rank_out, rank_in], row by row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RowLayout:
    """The shapes [rank_out, rank_in] of the layers' projected gradients, in the order of the columns."""

    shapes: Mapping[str, tuple[int, int]]

    @cached_property
    def columns(self) -> dict[str, slice]:
        start, found = 0, {}
        for name, (rank_out, rank_in) in self.shapes.items():
            found[name] = slice(start, start + rank_out * rank_in)
            start += rank_out * rank_in
        return found

    @property
    def width(self) -> int:
        return sum(rank_out * rank_in for rank_out, rank_in in self.shapes.values())

    def split(self, rows: Float[Tensor, "rows width"]) -> Iterator[tuple[str, Float[Tensor, "rows rank_out rank_in"]]]:
        """Each layer's name and its part of the rows."""
        for name, columns in self.columns.items():
            yield name, rows[:, columns].unflatten(1, self.shapes[name])
