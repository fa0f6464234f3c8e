"""A row as a fixed number of bytes: its length, a correction, and codes of its columns; scores from these alone.

    bytes 0 to 3   float32   ||v||, the exact length of the row
    bytes 4 to 7   float32   c = ||v||^2 / <s, v>, where s is what the codes stand for
    the rest                 the codes

<q, v> is estimated by c <q, s>. It is exact where q has the direction of v, and the columns stand in a random order,
so that what the codes leave out of v points anywhere: the estimate is unbiased in the sense of RaBitQ (arXiv
2405.12497). Queries are never rounded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from headwater_indexer.codes.codebook import codebook, levels_of, nearest
from headwater_indexer.durable import replacing
from headwater_indexer.errors import DataError

HEADER = np.dtype([("norm", "<f4"), ("correction", "<f4")])
HEADER_BYTES = HEADER.itemsize
Rows = Float32[np.ndarray, "rows width"]
Records = UInt8[np.ndarray, "rows bytes"]
# From the codes of some rows, without their headers, to <q, s> for each query.
Scorer = Callable[[UInt8[np.ndarray, "rows code_bytes"]], Float[Tensor, "rows queries"]]

_ROWS_AT_ONCE = 32  # encoded together: their distances to 256 words are held in memory
_PLACES_AT_ONCE = 128  # bytes of a code whose table of scores stays in a core's cache
_FEW_COLUMNS = 4  # in a block: below this many, decoding and one matrix product is quicker than looking up


class Codes(Protocol):
    """How the columns of a row become bytes."""

    @property
    def bytes(self) -> int:
        """Of a row, without its header."""

    def encode(self, rows: Float[Tensor, "rows width"]) -> tuple[Tensor, Float[Tensor, "rows width"]]:
        """For rows of root mean square 1: the codes, uint8 [rows, bytes], and what they stand for."""

    def scorer(self, queries: Float[Tensor, "queries width"]) -> Scorer: ...

    def tensors(self) -> dict[str, Tensor]:
        """What must be kept to read the codes again."""


class Coder:
    """Rows into records and records into scores."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes

    @classmethod
    def make(cls, *, width: int, columns: int, block: int | None, seed: int) -> "Coder":
        """Codes of `columns` of the `width`, drawn at random, `block` of them a byte; None for float16."""
        if block is None:
            return cls(HalfCodes(width))
        order = torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:columns]
        return cls(BlockCodes(order, codebook(block), width))

    @property
    def bytes(self) -> int:
        """Of a record: what is stored for a document."""
        return HEADER_BYTES + self._codes.bytes

    def encode(self, rows: Rows) -> Records:
        """Raises DataError for a row that is not finite."""
        records = np.empty((len(rows), self.bytes), dtype=np.uint8)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            self._encode(torch.from_numpy(rows[part]), records[part], first=start)
        return records

    def _encode(self, rows: Float[Tensor, "rows width"], records: Records, *, first: int) -> None:
        squares = rows.double().square().sum(1)
        if not bool(squares.isfinite().all()):
            raise DataError(f"row {first + int((~squares.isfinite()).nonzero()[0])} is not finite")
        scale = (squares / rows.shape[1]).sqrt().float()[:, None]
        codes, decoded = self._codes.encode(rows / scale.clamp(min=torch.finfo(torch.float32).tiny))
        along = (decoded * rows).sum(1).double()
        header = np.empty(len(rows), dtype=HEADER)
        header["norm"] = squares.sqrt().numpy()
        header["correction"] = torch.where(along > 0, squares / along, 0.0).numpy()
        records[:, :HEADER_BYTES] = header.view(np.uint8).reshape(len(rows), HEADER_BYTES)
        records[:, HEADER_BYTES:] = codes.numpy()

    def scorer(self, queries: Rows) -> Callable[[Records], Float32[np.ndarray, "queries rows"]]:
        """Estimates <q, v> for all queries and the rows of the records that it is given; prepares the queries once."""
        score = self._codes.scorer(torch.from_numpy(np.ascontiguousarray(queries)))

        def estimate(records: Records) -> Float32[np.ndarray, "queries rows"]:
            found: Float32[np.ndarray, "queries rows"] = score(records[:, HEADER_BYTES:]).T.numpy()
            found *= headers(records)["correction"]
            return found

        return estimate

    def save(self, path: Path) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in self._codes.tensors().items()}
        with replacing(path) as aside:
            aside.write_bytes(save(tensors))

    @classmethod
    def load(cls, path: Path) -> "Coder":
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        width = int(tensors["width"])
        if "order" not in tensors:
            return cls(HalfCodes(width))
        return cls(BlockCodes(tensors["order"].long(), tensors["book"], width))


def headers(records: Records) -> np.ndarray:
    """The records' lengths and corrections, as a structured array of HEADER."""
    return np.ascontiguousarray(records[:, :HEADER_BYTES]).view(HEADER)[:, 0]


class HalfCodes:
    """Every column in float16."""

    def __init__(self, width: int) -> None:
        self._width = width

    @property
    def bytes(self) -> int:
        return 2 * self._width

    def encode(self, rows: Float[Tensor, "rows width"]) -> tuple[Tensor, Float[Tensor, "rows width"]]:
        halves = rows.half()
        return halves.view(torch.uint8), halves.float()

    def scorer(self, queries: Float[Tensor, "queries width"]) -> Scorer:
        def score(codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows queries"]:
            halves = torch.from_numpy(np.ascontiguousarray(codes).view(np.float16))
            product: Tensor = halves.float() @ queries.T
            return product

        return score

    def tensors(self) -> dict[str, Tensor]:
        return {"width": torch.tensor(self._width)}


class BlockCodes:
    """Columns in a random order, block after block, and for each block the number of the nearest word: one byte."""

    def __init__(self, order: Int64[Tensor, " columns"], book: Float[Tensor, "words block"], width: int) -> None:
        self._order = order
        self._book = book
        self._width = width
        self._block = book.shape[1]

    @property
    def bytes(self) -> int:
        return -(-len(self._order) // self._block)

    def encode(self, rows: Float[Tensor, "rows width"]) -> tuple[Tensor, Float[Tensor, "rows width"]]:
        blocks = self._blocks(rows)
        chosen = self._nearest(blocks)
        decoded = torch.zeros_like(rows)
        words = self._book[chosen].flatten(1)[:, : len(self._order)]
        decoded[:, self._order] = words
        return chosen.to(torch.uint8), decoded

    def _blocks(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows bytes block"]:
        """The columns in their order, zeros after the last."""
        picked = rows[:, self._order]
        missing = self.bytes * self._block - len(self._order)
        blocks: Tensor = functional.pad(picked, (0, missing)).unflatten(1, (self.bytes, self._block))
        return blocks

    def _nearest(self, blocks: Float[Tensor, "rows bytes block"]) -> Int64[Tensor, "rows bytes"]:
        levels = levels_of(self._book)
        if levels is None:
            return nearest(blocks.flatten(0, 1), self._book).view(blocks.shape[:2])
        each = torch.bucketize(blocks.contiguous(), (levels[1:] + levels[:-1]) / 2)  # the level of each column
        radix = len(levels) ** torch.arange(self._block - 1, -1, -1)
        return (each * radix).sum(dim=2)

    def scorer(self, queries: Float[Tensor, "queries width"]) -> Scorer:
        blocks = self._blocks(queries)
        return self._decoding(blocks.flatten(1)) if self._block < _FEW_COLUMNS else self._looking_up(blocks)

    def _decoding(self, queries: Float[Tensor, "queries columns"]) -> Scorer:
        def score(codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows queries"]:
            words = functional.embedding(torch.from_numpy(codes.astype(np.int32)), self._book)
            product: Tensor = words.flatten(1) @ queries.T
            return product

        return score

    def _looking_up(self, queries: Float[Tensor, "queries bytes block"]) -> Scorer:
        """<q, s> is a sum over bytes of <the query's block, the byte's word>: 256 products a block, made once."""
        # Copied into a tensor of plain strides: on any others embedding_bag is a hundred times slower.
        tables = torch.empty(self.bytes, len(self._book), len(queries))
        tables.copy_(torch.einsum("qbc,wc->bwq", queries, self._book))

        def score(codes: UInt8[np.ndarray, "rows bytes"]) -> Float[Tensor, "rows queries"]:
            found = torch.zeros(len(codes), queries.shape[0])
            for start in range(0, self.bytes, _PLACES_AT_ONCE):
                table = tables[start : start + _PLACES_AT_ONCE]
                first = np.arange(len(table), dtype=np.int32) * table.shape[1]  # where each byte's words begin
                places = torch.from_numpy(codes[:, start : start + _PLACES_AT_ONCE] + first)
                found += functional.embedding_bag(places, table.flatten(0, 1), mode="sum")
            return found

        return score

    def tensors(self) -> dict[str, Tensor]:
        return {"order": self._order.int(), "book": self._book, "width": torch.tensor(self._width)}
