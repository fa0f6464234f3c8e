"""How to spend a budget of bytes: many columns of few bits before few columns of many.

Measured on two corpora and architectures: at a given number of bytes, accuracy grows with the number of columns that
they are spread over, down to an eighth of a bit a column, and the ranks that give those columns cost little. So a
budget takes as many columns as its bytes can name, from ranks that are equal in all layers, and then as many bits a
column as there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headwater_indexer.codes.coder import HEADER_BYTES
from headwater_indexer.errors import UsageError
from headwater_indexer.layers import Layer

HIGHEST_RANK = 256  # of a budget's choice: beyond, projecting costs the capture more than a few per cent
FEWEST_BYTES = 64
SPARSEST = 64  # columns in a byte: an eighth of a bit each; twice as many cost twice as much, and tell 0.003 of LDS


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """What a document's row is."""

    rank: int
    width: int  # columns before they are chosen
    columns: int  # those that are coded
    code_bytes: int | None  # what the codes may take; None for numbers of 16 or 32 bits
    bits: int | None  # 32 or 16; None for codes

    @property
    def exact(self) -> bool:
        """Whether rows are kept as they are, in float32."""
        return self.bits == 32

    @property
    def bytes(self) -> int:
        """Stored for each document."""
        if self.exact:
            return 8 * self.width + 8  # in the store of rows and in the search index, and its length
        return HEADER_BYTES + (2 * self.columns if self.code_bytes is None else self.code_bytes)


def plan_rows(layers: Sequence[Layer], *, rank: int | None, bits: int | None, budget: int | None) -> RowPlan:
    """The row of given bits a column, or the best row of `budget` bytes. Raises UsageError for a budget too small."""
    if budget is None:
        rank = rank or 32
        width, bits = width_at(layers, rank), bits or 32
        plain = bits if bits >= 16 else None
        codes = None if plain else -(-width * bits // 8)
        return RowPlan(rank=rank, width=width, columns=width, code_bytes=codes, bits=plain)
    if budget < FEWEST_BYTES:
        raise UsageError(f"--bytes {budget}: a document needs at least {FEWEST_BYTES}")
    places = budget - HEADER_BYTES
    rank = rank or _rank_for(layers, places * SPARSEST)
    width = width_at(layers, rank)
    columns = min(width, places * SPARSEST)
    if places >= 2 * columns:  # room for more than a byte a column
        return RowPlan(rank=rank, width=width, columns=width, code_bytes=None, bits=16)
    return RowPlan(rank=rank, width=width, columns=columns, code_bytes=_used(columns, places), bits=None)


def _used(columns: int, places: int) -> int:
    """Whole or half bytes where each column can have one, else all."""
    if columns > 2 * places:
        return places
    return columns if columns <= places else -(-columns // 2)


def width_at(layers: Sequence[Layer], rank: int) -> int:
    """Columns of a row at this rank, clipped to each layer's dimensions."""
    return sum(min(rank, layer.out_dim) * min(rank, layer.in_dim) for layer in layers)


def _rank_for(layers: Sequence[Layer], columns: int) -> int:
    """The lowest rank that gives so many columns, or the highest that is sensible."""
    return next((rank for rank in range(1, HIGHEST_RANK) if width_at(layers, rank) >= columns), HIGHEST_RANK)
