"""Exact search by inner product: FAISS over unit rows, with the rows' norms beside.

relatif    <v_q, u_z>                u_z = v_z / ||v_z||: the index's own inner product
cosine     <v_q, u_z> / ||v_q||      the same ranking, comparable between queries
influence  <v_q, u_z> ||v_z||        scored over all rows: no order of unit rows tells its ranking
"""

import logging
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Int64
from safetensors.numpy import load_file, save

from headwater_indexer.best import Best
from headwater_indexer.durable import replacing
from headwater_indexer.errors import DataError, IndexDamaged, MissingPackage
from headwater_indexer.tensors import reading_tensors

log = logging.getLogger("headwater.search")

ScoreKind = Literal["relatif", "influence", "cosine"]
Sign = Literal["positive", "negative"]
Rows = Float32[np.ndarray, "rows width"]
Query = Float32[np.ndarray, " width"]
Queries = Float32[np.ndarray, "queries width"]
Ordinals = Int64[np.ndarray, " ordinals"]
BLOCK_BYTES = 64 << 20  # of rows scored at once
GPU_TOP_K = 2048  # FAISS's limit on a GPU
NOTHING: Int64[np.ndarray, " ordinals"] = np.zeros(0, dtype=np.int64)


# How FAISS begins the file of an IndexFlatIP: its name, columns, rows, two numbers of old, whether it is trained, the
# metric (0: inner product), and how many float32 follow.
_FLAT_HEAD = struct.Struct("<4siqqqBiQ")


@dataclass(frozen=True)
class Hit:
    """One document found. `percentile` is the share of all documents, in percent, that score lower."""

    ordinal: int
    score: float
    percentile: float


def import_faiss() -> Any:
    """FAISS, from either of the two packages that provide it. Raises MissingPackage with what to install."""
    try:
        import faiss
    except ImportError as error:
        raise MissingPackage(
            "FAISS is not installed: pip install 'headwater[cpu]', or 'headwater[gpu]' on a machine with an NVIDIA GPU "
            "(one of the two: they provide the same module)"
        ) from error
    return faiss


def write_flat_index(path: Path, norms_path: Path, blocks: Iterable[Rows], width: int) -> Float[np.ndarray, " rows"]:
    """Builds the index of the blocks' unit rows and writes it; returns and writes the rows' norms. Raises as
    `flat_index`."""
    index, norms = flat_index(blocks, width)
    with replacing(path) as aside:
        import_faiss().write_index(index, str(aside))
    with replacing(norms_path) as aside:
        aside.write_bytes(save({"norms": norms}))
    return norms


def flat_index(blocks: Iterable[Rows], width: int) -> tuple[Any, Float[np.ndarray, " rows"]]:
    """FAISS's index of the blocks' unit rows, and the rows' norms.

    A row of zeros stays one and scores 0. Raises DataError for a row that is not finite: FAISS would return it always
    or never, without an error.
    """
    index = import_faiss().IndexFlatIP(width)
    norms: list[Float[np.ndarray, " rows"]] = []
    for block in blocks:
        block_norms = np.sqrt(np.einsum("rw,rw->r", block, block, dtype=np.float64))
        if not np.isfinite(block_norms).all():
            raise DataError(f"row {index.ntotal + int(np.flatnonzero(~np.isfinite(block_norms))[0])} is not finite")
        index.add(np.ascontiguousarray(block / np.where(block_norms > 0, block_norms, 1)[:, None], dtype=np.float32))
        norms.append(block_norms)
    return index, np.concatenate(norms) if norms else np.zeros(0)


def _rows_of_flat(path: Path) -> int:
    """How many rows a flat index of inner products holds. Raises ValueError for any other file: FAISS's own reader is
    not made for files that are damaged, or that mean harm."""
    with path.open("rb") as file:
        head = _FLAT_HEAD.unpack(file.read(_FLAT_HEAD.size).ljust(_FLAT_HEAD.size, b"\0"))
    kind, width, rows, _, _, trained, metric, numbers = head
    if (kind, trained, metric, numbers) != (b"IxFI", 1, 0, width * rows) or width < 1 or rows < 0:
        raise ValueError("it is no flat index of inner products")
    if path.stat().st_size != _FLAT_HEAD.size + 4 * numbers:
        raise ValueError("it is cut, or too long")
    return int(rows)


class FlatSearch:
    """All scores of a query in one pass over the rows."""

    def __init__(self, index: Any, norms: Float[np.ndarray, " rows"]) -> None:
        self._faiss = import_faiss()
        self.norms = norms
        self._on_gpu = _on_gpus(self._faiss, index)
        self._one_at_a_time = Lock()  # what FAISS holds of a GPU is for one thread
        self._flat = index

    @classmethod
    def open(cls, path: Path, norms_path: Path) -> "FlatSearch":
        """Raises IndexDamaged for what is not an index of unit rows and their norms, before FAISS looks at it."""
        with reading_tensors(norms_path):
            norms = np.asarray(load_file(norms_path)["norms"], dtype=np.float64)
        with reading_tensors(path):
            rows = _rows_of_flat(path)
        if norms.shape != (rows,):
            raise IndexDamaged(f"{path} holds {rows} rows and {norms_path.name} {len(norms)}")
        with reading_tensors(path):
            index = import_faiss().read_index(str(path))
        return cls(index, norms)

    @property
    def device(self) -> str:
        return "cpu" if self._on_gpu is None else "gpu"

    def __len__(self) -> int:
        return len(self.norms)

    def __call__(
        self,
        queries: Queries,
        *,
        top_k: int,
        score: ScoreKind,
        sign: Sign,
        among: Ordinals | None = None,
        without: Ordinals | None = None,
    ) -> list[list[Hit]]:
        """The `top_k` documents of each query, the most influential first; fewer when fewer are searched.

        `among` names the documents to search, each once, or `without` those not to search, without `among`;
        percentiles are among the documents searched.
        """
        left_out = NOTHING if without is None else without
        searched = (len(self) if among is None else len(among)) - len(left_out)
        top_k = min(top_k, searched)
        if top_k == 0:
            return [[] for _ in queries]
        queries = np.ascontiguousarray(queries * np.float32(_direction(sign)))
        if self._on_gpu is not None and top_k <= GPU_TOP_K and score != "influence" and searched == len(self):
            with self._one_at_a_time:
                scores, ordinals = self._on_gpu.search(queries, top_k)
        else:
            found = Best(len(queries), top_k)
            for block, own in self._scored(queries, score, among):
                if len(left_out):
                    own[:, np.isin(block, left_out)] = -np.inf
                found.offer(own, block)
            scores, ordinals = found.found()
        if score == "cosine":
            scores = scores / lengths(queries)
        return hits(scores, ordinals, searched=searched, sign=sign)

    def _scored(
        self, queries: Queries, score: ScoreKind, among: Ordinals | None
    ) -> Iterator[tuple[Ordinals, Float[np.ndarray, "queries block"]]]:
        """Block by block, which rows they are and all queries' scores of them, by one product of matrices.

        (FAISS's selectors are slower, and ignored on a GPU.)
        """
        rows = self._faiss.rev_swig_ptr(self._flat.get_xb(), len(self) * self._flat.d).reshape(len(self), self._flat.d)
        searched = len(self) if among is None else len(among)
        # Where they lie, rows cost no memory but their scores; those that are picked are copied.
        step = max(1, BLOCK_BYTES // (4 * (len(queries) if among is None else self._flat.d)))
        for start in range(0, searched, step):
            stop = min(start + step, searched)
            block = np.arange(start, stop) if among is None else among[start:stop]
            scores = ((rows[start:stop] if among is None else rows[block]) @ queries.T).T
            yield block, scores * self.norms[block] if score == "influence" else scores

    def influences(self, queries: Queries, among: Ordinals | None = None) -> Float32[np.ndarray, "queries searched"]:
        """The influence of every document, or of those named, on every query."""
        blocks = [scores for _, scores in self._scored(queries, "influence", among)]
        return np.concatenate([np.empty((len(queries), 0)), *blocks], axis=1, dtype=np.float32)


def hits(
    scores: Float[np.ndarray, "queries top_k"],
    ordinals: Int64[np.ndarray, "queries top_k"],
    *,
    searched: int,
    sign: Sign,
) -> list[list[Hit]]:
    """Scores of queries that were turned round for `negative`, as hits among so many documents that were searched."""
    direction = _direction(sign)
    return [
        [
            Hit(ordinal=int(o), score=direction * float(s), percentile=percentile(rank, searched, sign))
            for rank, (o, s) in enumerate(zip(row_ordinals, row_scores, strict=True), start=1)
        ]
        for row_ordinals, row_scores in zip(ordinals, scores, strict=True)
    ]


def lengths(queries: Float32[np.ndarray, "queries width"]) -> Float[np.ndarray, "queries 1"]:
    """The queries' lengths, for cosines; 1 for a query of zeros."""
    found = np.linalg.norm(queries, axis=1, keepdims=True)
    return np.where(found > 0, found, 1)


def _direction(sign: Sign) -> float:
    return 1.0 if sign == "positive" else -1.0


def gpus() -> int:
    """How many GPUs FAISS sees: none where it is faiss-cpu, which has not even the names."""
    faiss = import_faiss()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def _on_gpus(faiss: Any, index: Any) -> Any | None:
    """A float16 copy on the GPUs that FAISS sees, a part of the rows on each; None without one."""
    count = gpus()
    if count == 0:
        log.info("exact search on the CPU: FAISS sees no GPU")
        return None
    log.info("exact search on %d GPU(s), in float16; by influence, under filters and for long lists on the CPU", count)
    options = faiss.GpuMultipleClonerOptions()
    options.useFloat16, options.shard = True, True
    return faiss.index_cpu_to_all_gpus(index, options)


def percentile(rank: int, documents: int, sign: Sign) -> float:
    """The share of so many documents, in percent, that score lower than the one at this rank, from 1."""
    below = (documents - rank) / documents if sign == "positive" else (rank - 1) / documents
    return 100.0 * below
