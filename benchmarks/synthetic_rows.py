"""Rows like those of a large corpus, drawn straight as records: clusters, near duplicates, lengths with a heavy tail.

Encoding a million rows of 12,288 columns takes hours; drawing codes takes minutes, and every sequence of bytes is the
code of some row. So a document here *is* what its code stands for: exact search over the records and over float32 rows
rank alike, and signs are taken of the very rows. A document takes some runs of bytes from its topic, some from its
subtopic, and draws the rest; so two documents of a subtopic have a cosine of the product of their shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headwater_indexer.codes.coder import HEADER, HEADER_BYTES, Coder
from headwater_indexer.signs.coder import SignCoder
from headwater_indexer.store.shards import ShardStore

WIDTH = 12_288
CODE_BYTES = WIDTH // 4  # two bits a column
RUN = 16  # bytes that come from one place together
BLOCK = 1_024  # documents drawn at once
SHARD = 8 * BLOCK
IN_SUBTOPIC, IN_TOPIC = 25, 500  # documents, on average
DUPLICATES = 0.03  # of all documents are nearly the one before them


@dataclass(frozen=True)
class Corpus:
    """The same documents for the same seed and number."""

    documents: int
    seed: int = 0

    @property
    def coder(self) -> Coder:
        return Coder.make(width=WIDTH, columns=WIDTH, code_bytes=CODE_BYTES, seed=0)

    @property
    def signs(self) -> SignCoder:
        return SignCoder.make(WIDTH, most=WIDTH, seed=0)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Records and float32 rows, block by block."""
        prototypes = self._prototypes()
        for number, start in enumerate(range(0, self.documents, BLOCK)):
            draw = np.random.default_rng([self.seed, 1, number])
            yield self._rows(self._codes(draw, min(BLOCK, self.documents - start), prototypes), draw)

    def queries(self, count: int) -> np.ndarray:
        """Rows of documents that are not in the corpus, half of them near one that is; float32, of their own length."""
        draw = np.random.default_rng([self.seed, 2])
        codes = self._codes(draw, count, self._prototypes())
        first = next(self.blocks())[0][: count // 2, HEADER_BYTES:]
        codes[: len(first)] = _mixed(draw, codes[: len(first)], first, np.full(len(first), 0.5))
        rows = self._rows(codes, draw)[1]
        rows += 0.3 * np.abs(rows).mean(1, keepdims=True) * draw.standard_normal(rows.shape).astype(np.float32)
        return rows

    def write(self, folder: Path) -> tuple[ShardStore, ShardStore]:
        """The stores of records and of signs, opened if they are whole."""
        coder, signs = self.coder, self.signs
        records = ShardStore(folder / "rows", width=coder.bytes, dtype="uint8")
        bits = ShardStore(folder / "signs", width=signs.bytes, dtype="uint8")
        if len(records) == len(bits) == self.documents:
            return records, bits
        if len(records) or len(bits):
            raise SystemExit(f"{folder} holds other rows: delete it, or name another folder")
        waiting: list[tuple[np.ndarray, np.ndarray]] = []
        for block, rows in self.blocks():
            waiting.append((block, signs.encode(rows)))
            if len(waiting) * BLOCK >= SHARD or len(records) + sum(len(b) for b, _ in waiting) == self.documents:
                records.append(np.concatenate([block for block, _ in waiting]))
                bits.append(np.concatenate([block for _, block in waiting]))
                waiting = []
        return records, bits

    def _prototypes(self) -> tuple[np.ndarray, np.ndarray]:
        """Codes of the topics and of the subtopics."""
        draw = np.random.default_rng([self.seed, 0])
        topics, subtopics = (max(4, self.documents // each) for each in (IN_TOPIC, IN_SUBTOPIC))
        codes = draw.integers(0, 256, (topics + subtopics, CODE_BYTES), dtype=np.uint8)
        return codes[:topics], codes[topics:]

    def _codes(self, draw: np.random.Generator, count: int, prototypes: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        topics, subtopics = prototypes
        subtopic = (len(subtopics) * draw.random(count) ** 2).astype(np.int64)  # some are large
        codes = draw.integers(0, 256, (count, CODE_BYTES), dtype=np.uint8)
        codes = _mixed(draw, codes, topics[subtopic % len(topics)], np.minimum(0.5, draw.gamma(2, 0.1, count)))
        codes = _mixed(draw, codes, subtopics[subtopic], np.minimum(0.9, draw.gamma(2, 0.15, count)))
        twins = np.flatnonzero(draw.random(count - 1) < DUPLICATES) + 1
        codes[twins] = _mixed(draw, codes[twins], codes[twins - 1], np.full(len(twins), 0.9))
        return codes

    def _rows(self, codes: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Records of lengths that differ much, and the rows that they stand for."""
        records = np.empty((len(codes), HEADER_BYTES + CODE_BYTES), dtype=np.uint8)
        header = np.ones(len(codes), dtype=HEADER)
        records[:, HEADER_BYTES:] = codes
        records[:, :HEADER_BYTES] = header.view(np.uint8).reshape(len(codes), HEADER_BYTES)
        rows = self.coder.decode(records)
        header["norm"] = np.exp(0.4 * draw.standard_normal(len(codes))) + 0.1 * draw.pareto(1.5, len(codes))
        header["correction"] = header["norm"] / np.linalg.norm(rows, axis=1)
        records[:, :HEADER_BYTES] = header.view(np.uint8).reshape(len(codes), HEADER_BYTES)
        return records, rows * header["correction"][:, None]


def _mixed(draw: np.random.Generator, codes: np.ndarray, other: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Codes with some runs of `other` ones."""
    taken = draw.random((len(codes), CODE_BYTES // RUN)) < shares[:, None]
    return np.where(np.repeat(taken, RUN, axis=1), other, codes)
