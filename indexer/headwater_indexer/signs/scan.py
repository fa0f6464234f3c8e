"""Signs in memory, and the documents that they propose for a query."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8, UInt64

from headwater_indexer.compiling import require_numba
from headwater_indexer.errors import HeadwaterError
from headwater_indexer.search import ScoreKind
from headwater_indexer.signs.coder import HEADER, HEADER_BYTES, SignCoder, in_lines
from headwater_indexer.signs.folding import fold, unfold
from headwater_indexer.signs.query import QueryPlanes, query_planes

Records = UInt8[np.ndarray, "rows bytes"]
Scored = tuple[Float32[np.ndarray, " kept"], Int64[np.ndarray, " kept"]]  # scores, and whose they are
MEMORY_BYTES = 12  # of a document beside its words: its length and what two scores are scaled by
_QUERIES_AT_ONCE = 64  # whose planes stay in a core's cache beside the rows
DEVIATIONS = 2.5  # of its estimate, that a document's score is given the benefit of
_EVERY = 32  # rows, one of which is in the sample that tells what a candidate's score is like
_SAMPLED_FOR = 8  # queries at least: what one query's pass waits for is the memory, not the counting
_SAMPLED_OF = 16  # times as many rows as candidates
_TRIED_ROWS, _TRIED_QUERIES = 64, 3


@dataclass(frozen=True)
class Proposed:
    """Documents by falling bound: what their score hardly exceeds, DEVIATIONS of its estimate above it."""

    ordinals: Int64[np.ndarray, " candidates"]
    bounds: Float32[np.ndarray, " candidates"]

    def raised(self, error: float) -> "Proposed":
        """With bounds that are so much higher."""
        return Proposed(self.ordinals, self.bounds + np.float32(error))


class SignScan:
    """The signs of all documents, looked at in one pass for many queries."""

    def __init__(self, coder: SignCoder, documents: int) -> None:
        """Room for so many, to be filled by `add`."""
        self.coder = coder
        # Folded: see `folding`.
        self.words: UInt64[np.ndarray, "documents words"] = in_lines(documents, coder.words_in_memory)
        self.norms: Float32[np.ndarray, " documents"] = np.zeros(documents, dtype=np.float32)
        self.factors: Float32[np.ndarray, " documents"] = np.zeros(documents, dtype=np.float32)
        self.threads = max(1, min(torch.get_num_threads(), os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="headwater-signs")
        self._filled = 0

    @classmethod
    def of(cls, coder: SignCoder, documents: int, blocks: Iterable[Records]) -> "SignScan":
        """Reads all records; checked against plain arithmetic before it is used.

        Raises HeadwaterError, MissingPackage.
        """
        require_scan()
        scan = cls(coder, documents)
        for block in blocks:
            scan._add(block)
        scan.check()
        return scan

    def _add(self, records: Records) -> None:
        part = slice(self._filled, self._filled + len(records))
        header = np.ascontiguousarray(records[:, :HEADER_BYTES]).view(HEADER)[:, 0]
        self.norms[part], self.factors[part] = header["norm"], header["factor"]
        self.words[part, : self.coder.words] = np.ascontiguousarray(records[:, HEADER_BYTES:]).view(np.uint64)
        fold(self.words[part])
        self._filled += len(records)

    def __len__(self) -> int:
        return len(self.norms)

    def propose(
        self,
        queries: Float32[np.ndarray, "queries width"],
        *,
        candidates: int,
        score: ScoreKind,
        searched: Bool[np.ndarray, " documents"] | None = None,
    ) -> list[Proposed]:
        """The documents whose score may be highest, for each query; of those that are `searched` alone where it is
        given."""
        scales = self.factors * self.norms if score == "influence" else self.factors
        if searched is not None:
            scales = np.where(searched, scales, np.float32(np.nan))
        found: list[Proposed] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            planes = query_planes(self.coder, queries[start : start + _QUERIES_AT_ONCE])
            error = planes.lengths * np.float32(self._deviation * DEVIATIONS)
            # Relatif's error is alike for all documents, and is added afterwards. That of influence grows with their
            # length, and a document of a hundred times the usual length is not to be lost by it.
            influence = score == "influence"
            proposed = self._pass(_Pass(planes, scales, error if influence else 0 * error, candidates))
            found += proposed if influence else [p.raised(float(e)) for p, e in zip(proposed, error, strict=True)]
        return found

    @cached_property
    def _deviation(self) -> float:
        """Of the estimate of <q, v> / (||q|| ||v||) for a middling document: see `SignCoder`'s f."""
        factors = self.factors[self.factors > 0]
        middling = float(np.median(factors[:: max(1, len(factors) // 10_000)])) if len(factors) else 0.0
        return float(np.sqrt(max(0.0, (len(self.coder.columns) * middling**2 - 1) / self.coder.width)))

    def _pass(self, asked: "_Pass") -> list[Proposed]:
        if len(asked.allowed) >= _SAMPLED_FOR and len(self) >= _SAMPLED_OF * asked.candidates:
            found = self._all(replace(asked, least=self._threshold(asked)))
            if min(len(one.ordinals) for one in found) == asked.candidates:
                return found
        return self._all(asked)  # the sample was of another kind than the whole

    def _all(self, asked: "_Pass") -> list[Proposed]:
        """The best candidates of each query."""
        cuts = np.linspace(0, len(self), self.threads + 1).astype(int)
        parts = list(self._pool.map(partial(self._part, asked), cuts[:-1], cuts[1:]))
        return [_best_of([part[query] for part in parts], asked.candidates) for query in range(len(asked.allowed))]

    def _threshold(self, asked: "_Pass") -> Float32[np.ndarray, " queries"]:
        """A score that half as many rows again as are wanted exceed, by one row in _EVERY."""
        wanted = asked.candidates * 3 // (2 * _EVERY)
        sample = self._all(replace(asked, candidates=wanted, every=_EVERY))
        return np.array([one.bounds[-1] if len(one.bounds) == wanted else -np.inf for one in sample], np.float32)

    def _part(self, asked: "_Pass", first: int, last: int) -> list[Scored]:
        """Some of each query's rows from `first` to `last`, its best among them."""
        from headwater_indexer.signs.scan_kernel import scan

        queries, part = asked.planes, slice(first, last)
        room = (len(asked.allowed), 2 * asked.candidates)
        scores, ordinals = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.int64)
        counts = np.zeros(len(asked.allowed), dtype=np.int64)
        rows = (self.words[part], asked.scales[part], self.norms[part], first, asked.every)
        wanted = (queries.planes, queries.steps, asked.allowed, queries.middle, queries.most, queries.slope)
        scan(*rows, *wanted, asked.thresholds(), scores, ordinals, counts)
        return [(scores[query, :count], ordinals[query, :count]) for query, count in enumerate(counts)]

    def check(self) -> None:
        """Raises HeadwaterError when the compiled pass and plain arithmetic disagree at this width: a quick search
        that is wrong looks like one that is right."""
        rows = min(_TRIED_ROWS, len(self))
        if not rows:
            return
        draw = np.random.default_rng(0)
        queries = draw.standard_normal((_TRIED_QUERIES, self.coder.width)).astype(np.float32)
        planes, allowed = query_planes(self.coder, queries), np.full(_TRIED_QUERIES, 0.5, dtype=np.float32)
        for query, (scores, ordinals) in enumerate(self._part(_Pass(planes, self.factors, allowed, rows), 0, rows)):
            differing = self.words[:rows, None] ^ planes.planes[query]
            unfold(differing)
            counted = np.bitwise_count(differing).sum(2, dtype=np.int64) @ (1 << np.arange(differing.shape[1]))
            products = (planes.middle - counted) * planes.steps[query]
            expected = products * self.factors[:rows] + allowed[query] * self.norms[:rows]
            if not np.allclose(scores[np.argsort(ordinals)], expected, rtol=1e-4, atol=1e-6):
                raise HeadwaterError(
                    f"the quick search gives wrong scores at {len(self.coder.columns)} columns on this machine: serve "
                    "the index with --plan exact, and report it with the processor's name"
                )


def require_scan() -> None:
    """Raises MissingPackage where signs cannot be scanned."""
    require_numba("two-stage search", "choose --plan exact")


@dataclass(frozen=True)
class _Pass:
    """What one pass looks for."""

    planes: QueryPlanes
    scales: Float32[np.ndarray, " documents"]
    allowed: Float32[np.ndarray, " queries"]  # added for each unit of a document's length
    candidates: int
    every: int = 1  # one row in so many is looked at
    least: Float32[np.ndarray, " queries"] | None = None  # scores that candidates exceed; None where nothing is known

    def thresholds(self) -> Float32[np.ndarray, " queries"]:
        """A copy, to be raised."""
        return np.full(len(self.allowed), -np.inf, np.float32) if self.least is None else self.least.copy()


def _best_of(parts: list[Scored], candidates: int) -> Proposed:
    scores = np.concatenate([part[0] for part in parts])
    ordinals = np.concatenate([part[1] for part in parts])
    if len(scores) > candidates:
        kept = np.argpartition(scores, len(scores) - candidates)[len(scores) - candidates :]
        scores, ordinals = scores[kept], ordinals[kept]
    order = np.argsort(-scores)
    return Proposed(ordinals[order], scores[order])
