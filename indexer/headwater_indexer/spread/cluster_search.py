"""The searches of all parts as one: each searcher answers for its own, and the best of these are the index's best.

A replica that dies is started anew by Ray Serve, on another node if need be, and what it was asked is asked again:
another replica answers, or, where there is none, the question waits, as long as `patience`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from headwater_indexer.manifest import Manifest
from headwater_indexer.numbering import Numbering
from headwater_indexer.search import Hit, Ordinals, Queries, ScoreKind, Sign
from headwater_indexer.segments import SegmentedSearch
from headwater_indexer.spread.application import Application
from headwater_indexer.spread.asking import answer
from headwater_indexer.spread.parts import Part, cut
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace

OPENING = 600.0  # seconds for the searchers to start and to read their rows


@dataclass(eq=False)
class _RemotePart:
    """One part, as the search that its searcher makes of it."""

    searcher: Any  # a handle
    number: int
    patience: float  # seconds

    @cached_property
    def norms(self) -> Float[np.ndarray, " rows"]:
        return np.asarray(answer(self.searcher.norms, self.number, patience=OPENING))

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
        wanted = {"top_k": top_k, "score": score, "sign": sign, "among": among, "without": without}
        found: list[list[Hit]] = answer(self.searcher.search, self.number, queries, wanted, patience=self.patience)
        return found

    def influences(self, queries: Queries, among: Ordinals | None = None) -> Float32[np.ndarray, "queries searched"]:
        return np.asarray(answer(self.searcher.influences, self.number, queries, among, patience=self.patience))


class ClusterSearch:
    """Some searchers and what they hold, for the time that an index is open."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        numbering: Numbering,
        *,
        searchers: int,
        patience: float,
        replicas: int = 1,
        two_stage: bool = False,
        url: str | None = None,
    ) -> None:
        """Returns when all rows have been read: from the folder, on nodes that have it, else from the URL.

        Raises ClusterError, and IndexDamaged as an index does.
        """
        self.parts = _cut(folder, manifest, searchers)
        used = sorted({part.searcher for part in self.parts})
        made_of = {number: (str(folder), manifest.version, self._own(number), two_stage, url) for number in used}
        self._application = Application(made_of, replicas)
        self._threads = ThreadPoolExecutor(max(16, 4 * len(self.parts)), thread_name_prefix="headwater-gather")
        handles = self._application.handles
        remote = [_RemotePart(handles[part.searcher], n, patience) for n, part in enumerate(self.parts)]
        by_part = Numbering(tuple(part.rows for part in self.parts), numbering.removed)
        try:
            self.search = SegmentedSearch(remote, by_part, side_by_side=self._threads.map)
        except BaseException:
            self.close()
            raise

    def _own(self, searcher: int) -> dict[int, Part]:
        return {n: part for n, part in enumerate(self.parts) if part.searcher == searcher}

    def close(self) -> None:
        """Ends the searchers; who still waits for one gets a ClusterError."""
        self._application.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _cut(folder: Path, manifest: Manifest, searchers: int) -> list[Part]:
    work = Workspace(folder)
    stores = [(segment.folder, ShardStore.open(work.segment(segment.folder).rows)) for segment in manifest.segments]
    return cut([(name, store.manifest) for name, store in stores], searchers)
