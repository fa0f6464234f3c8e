"""A row as the signs of its columns, from which its influence is estimated: one bit a column.

    bytes 0 to 3   float32   ||v||, the length of the row
    bytes 4 to 7   float32   f, so that <q, v> / ||v|| is estimated by f <q, s>, where s is +1 and -1 by the signs
    the rest                 64-bit words of signs, 1 for what is below 0

f = <u, u> / <u, s> for the row's direction u = v / ||v||, as in RaBitQ (arXiv 2405.12497): exact for a query of
the row's own direction. Of columns beyond `most`, a random choice is looked at; f counts for those left out.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, UInt8, UInt64
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from headwater_indexer.durable import replacing
from headwater_indexer.errors import DataError, IndexDamaged

HEADER = np.dtype([("norm", "<f4"), ("factor", "<f4")])
HEADER_BYTES = HEADER.itemsize
WORD_BITS = 64
LINE_WORDS = 8  # of a line of the cache, which are counted at once
Rows = Float32[np.ndarray, "rows width"]
Records = UInt8[np.ndarray, "rows bytes"]
_ROWS_AT_ONCE = 256  # encoded together, in float32


@dataclass(frozen=True)
class SignCoder:
    """Which columns of a row are looked at, in ascending order."""

    columns: Int32[np.ndarray, " columns"]
    width: int  # of a row

    @classmethod
    def make(cls, width: int, *, most: int, seed: int) -> "SignCoder":
        """All columns, or a random choice of `most`, in whole words."""
        if width <= most:
            return cls(np.arange(width, dtype=np.int32), width)
        kept = max(WORD_BITS, most // WORD_BITS * WORD_BITS)
        drawn = torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:kept]
        return cls(drawn.sort().values.to(torch.int32).numpy(), width)

    @property
    def words(self) -> int:
        return -(-len(self.columns) // WORD_BITS)

    @property
    def words_in_memory(self) -> int:
        """With zeros behind, so that a row begins where a line of the processor's cache does."""
        return -(-self.words // LINE_WORDS) * LINE_WORDS

    @property
    def bytes(self) -> int:
        """Of a record."""
        return HEADER_BYTES + 8 * self.words

    def encode(self, rows: Rows) -> Records:
        """The rows' records. Raises DataError for a row that is not finite."""
        records = np.empty((len(rows), self.bytes), dtype=np.uint8)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            self._encode(rows[part], records[part], first=start)
        return records

    def _encode(self, rows: Rows, records: Records, *, first: int) -> None:
        norms = np.sqrt(np.einsum("rw,rw->r", rows, rows, dtype=np.float64))
        if not np.isfinite(norms).all():
            raise DataError(f"row {first + int(np.flatnonzero(~np.isfinite(norms))[0])} is not finite")
        seen = self.pick(rows)
        absolute = np.abs(seen).sum(1, dtype=np.float64)
        squares = np.einsum("rw,rw->r", seen, seen, dtype=np.float64)
        header = np.zeros(len(rows), dtype=HEADER)
        header["norm"] = norms
        # <v_S, v_S> / <v_S, s>, over ||v||; a row of zeros scores 0.
        np.divide(squares * (self.width / len(self.columns)), absolute * norms, out=absolute, where=absolute > 0)
        header["factor"] = absolute
        records[:, :HEADER_BYTES] = header.view(np.uint8).reshape(len(rows), HEADER_BYTES)
        records[:, HEADER_BYTES:] = pack(seen < 0).view(np.uint8)

    def pick(self, rows: Float32[np.ndarray, "rows width"]) -> Float32[np.ndarray, "rows columns"]:
        """The columns that are looked at."""
        return rows if len(self.columns) == self.width else np.ascontiguousarray(rows[:, self.columns])

    def save(self, path: Path) -> None:
        with replacing(path) as aside:
            aside.write_bytes(save({"columns": self.columns, "width": np.array(self.width)}))

    @classmethod
    def load(cls, path: Path) -> "SignCoder":
        try:
            tensors = load_file(path)
            return cls(tensors["columns"], int(tensors["width"]))
        except (OSError, SafetensorError, KeyError) as error:
            raise IndexDamaged(f"{path} cannot be read: copy it again, or build the index again") from error


def in_lines(*shape: int) -> UInt64[np.ndarray, "..."]:
    """Zeros, from the beginning of a line of the cache on: what crosses lines is read at half the speed."""
    line, size = 8 * LINE_WORDS, 8 * math.prod(shape)
    held = np.zeros(size + line, dtype=np.uint8)
    begin = -held.ctypes.data % line
    return held[begin : begin + size].view(np.uint64).reshape(shape)


def pack(bits: Bool[np.ndarray, "rows columns"]) -> UInt64[np.ndarray, "rows words"]:
    """Bits as words, zeros after the last column."""
    missing = -bits.shape[1] % WORD_BITS
    padded = np.pad(bits, ((0, 0), (0, missing))) if missing else bits
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)
