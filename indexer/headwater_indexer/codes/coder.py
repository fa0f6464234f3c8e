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

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from headwater_indexer import compiling
from headwater_indexer.codes.codes import Codes
from headwater_indexer.codes.rounding import HalfCodes, LevelCodes
from headwater_indexer.codes.trellis import TrellisCodes
from headwater_indexer.durable import replacing
from headwater_indexer.errors import DataError
from headwater_indexer.tensors import reading_tensors

HEADER = np.dtype([("norm", "<f4"), ("correction", "<f4")])
HEADER_BYTES = HEADER.itemsize
Rows = Float32[np.ndarray, "rows width"]
Records = UInt8[np.ndarray, "rows bytes"]

# From the codes of some rows to <q, s> for each query.
CodeScorer = Callable[[UInt8[np.ndarray, "rows code_bytes"]], Float32[np.ndarray, "queries rows"]]

_ONE_BY_ONE = 4  # queries, that are sooner scored each by itself than together
_BLOCK_BYTES = 64 << 20  # of rows encoded together


class Coder:
    """Rows into records and records into scores. `device` is where rows are encoded; scores are made on the CPU."""

    def __init__(self, codes: Codes, device: torch.device | None = None) -> None:
        self._codes = codes
        self._device = device or torch.device("cpu")

    @classmethod
    def make(cls, *, width: int, columns: int, code_bytes: int | None, seed: int) -> "Coder":
        """Codes of `columns` of the `width`, drawn at random, in so many bytes at most; None for float16."""
        if code_bytes is None:
            return cls(HalfCodes(width))
        order = torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:columns]
        if columns <= 2 * code_bytes:
            return cls(LevelCodes.make(order, width, in_byte=1 if columns <= code_bytes else 2))
        return cls(TrellisCodes.make(order, width, code_bytes, seed=seed))

    @property
    def bytes(self) -> int:
        """Of a record: what is stored for a document."""
        return HEADER_BYTES + self._codes.bytes

    def encode(self, rows: Rows) -> Records:
        """Raises DataError for a row that is not finite."""
        records = np.empty((len(rows), self.bytes), dtype=np.uint8)
        at_once = max(1, _BLOCK_BYTES // (4 * rows.shape[1]))
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            self._encode(torch.from_numpy(rows[part]).to(self._device), records[part], first=start)
        return records

    def _encode(self, rows: Float[Tensor, "rows width"], records: Records, *, first: int) -> None:
        squares = rows.double().square().sum(1)
        if not bool(squares.isfinite().all()):
            raise DataError(f"row {first + int((~squares.isfinite()).nonzero()[0])} is not finite")
        scale = (squares / rows.shape[1]).sqrt().float()[:, None]
        codes, along = self._codes.encode(rows / scale.clamp(min=torch.finfo(torch.float32).tiny))
        along = along * scale[:, 0]
        header = np.empty(len(rows), dtype=HEADER)
        header["norm"] = squares.sqrt().cpu().numpy()
        header["correction"] = torch.where(along > 0, squares / along, 0.0).cpu().numpy()
        records[:, :HEADER_BYTES] = header.view(np.uint8).reshape(len(rows), HEADER_BYTES)
        records[:, HEADER_BYTES:] = codes.cpu().numpy()

    def scorer(self, queries: Rows) -> Callable[[Records], Float32[np.ndarray, "queries rows"]]:
        """Estimates <q, v> for all queries and the rows of the records that it is given; prepares the queries once."""
        score = self._by_kernels(queries) if len(queries) <= _ONE_BY_ONE and compiling.has_numba() else None
        if score is None:
            score = self._together(queries)

        def estimate(records: Records) -> Float32[np.ndarray, "queries rows"]:
            found: Float32[np.ndarray, "queries rows"] = score(records[:, HEADER_BYTES:])
            found *= headers(records)["correction"]
            return found

        return estimate

    def _together(self, queries: Rows) -> CodeScorer:
        score = self._codes.scorer(torch.from_numpy(np.ascontiguousarray(queries)))
        return lambda codes: score(codes).T.numpy()

    def _by_kernels(self, queries: Rows) -> CodeScorer | None:
        """Query by query; None where these codes have no kernel for that."""
        kernels = [self._codes.quick_scorer(query) for query in torch.from_numpy(np.ascontiguousarray(queries))]
        found = [kernel for kernel in kernels if kernel is not None]
        return (lambda codes: np.stack([kernel(codes) for kernel in found])) if found else None

    def decode(self, records: Records) -> Rows:
        """The rows that the records estimate influence by."""
        decoded = self._codes.decode(torch.from_numpy(np.ascontiguousarray(records[:, HEADER_BYTES:]))).numpy()
        found: Rows = decoded * headers(records)["correction"][:, None]
        return found

    def to(self, device: torch.device) -> "Coder":
        """The same codes, encoded on another device."""
        return Coder(_codes({name: tensor.to(device) for name, tensor in self._codes.tensors().items()}), device)

    def save(self, path: Path) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in self._codes.tensors().items()}
        with replacing(path) as aside:
            aside.write_bytes(save(tensors))

    @classmethod
    def load(cls, path: Path) -> "Coder":
        """Raises IndexDamaged."""
        with reading_tensors(path), safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return cls(_codes(tensors))


def _codes(tensors: dict[str, Tensor]) -> Codes:
    width = int(tensors["width"])
    if "order" not in tensors:
        return HalfCodes(width)
    order = tensors["order"].long()
    if "levels" in tensors:
        return LevelCodes(order, tensors["levels"], width)
    return TrellisCodes(order, tensors["halves"], width, int(tensors["bytes"]))


def headers(records: Records) -> np.ndarray:
    """The records' lengths and corrections, as a structured array of HEADER."""
    return np.ascontiguousarray(records[:, :HEADER_BYTES]).view(HEADER)[:, 0]
