"""The searches of all parts as one: each actor answers for its own, and the best of these are the index's best.

An actor that dies is started anew by Ray, on another node if need be, and what it was asked is asked again: a question
waits meanwhile, as long as `patience`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from headwater_indexer.engines.cluster import import_ray
from headwater_indexer.errors import ClusterError
from headwater_indexer.manifest import Manifest
from headwater_indexer.numbering import Numbering
from headwater_indexer.search import Hit, Ordinals, Queries, ScoreKind, Sign
from headwater_indexer.segments import SegmentedSearch
from headwater_indexer.spread.parts import Part, cut
from headwater_indexer.spread.searcher import PartSearcher
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace

_CALLS = 8  # that an actor works on side by side; the products in them use all of its cores
OPENING = 600.0  # seconds for the actors to read their rows


@dataclass(eq=False)
class _RemotePart:
    """One part, as the search that its actor makes of it."""

    actor: Any
    number: int
    patience: float  # seconds

    @cached_property
    def norms(self) -> Float[np.ndarray, " rows"]:
        return np.asarray(_answer(self.actor.norms.remote(self.number), OPENING))

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
        found: list[list[Hit]] = _answer(self.actor.search.remote(self.number, queries, wanted), self.patience)
        return found

    def influences(self, queries: Queries, among: Ordinals | None = None) -> Float32[np.ndarray, "queries searched"]:
        return np.asarray(_answer(self.actor.influences.remote(self.number, queries, among), self.patience))


def _answer(ref: Any, patience: float) -> Any:
    """Raises ClusterError when there is none in this time, and what the actor raised."""
    ray = import_ray()
    try:
        return ray.get(ref, timeout=patience)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise ClusterError("a part of the index cannot be searched: the log of its actor says why") from error
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f"a part of the index has not answered for {patience:g} s: its node may be lost, and the cluster may have "
            "no room to start it elsewhere"
        ) from error


class ClusterSearch:
    """Some actors and what they hold, for the time that an index is open."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        numbering: Numbering,
        *,
        searchers: int,
        patience: float,
        two_stage: bool = False,
        url: str | None = None,
    ) -> None:
        """Returns when all rows have been read: from the folder, on nodes that have it, else from the URL.

        Raises ClusterError, and IndexDamaged as an index does.
        """
        ray = self._ray = import_ray()
        self.parts = _cut(folder, manifest, searchers)
        self.actors = {
            number: _start(ray, str(folder), manifest.version, self._own(number), two_stage, url)
            for number in sorted({part.searcher for part in self.parts})
        }
        self._threads = ThreadPoolExecutor(max(16, 4 * len(self.parts)), thread_name_prefix="headwater-gather")
        remote = [_RemotePart(self.actors[part.searcher], n, patience) for n, part in enumerate(self.parts)]
        by_part = Numbering(tuple(part.rows for part in self.parts), numbering.removed)
        try:
            self.search = SegmentedSearch(remote, by_part, side_by_side=self._threads.map)
        except BaseException:
            self.close()
            raise

    def _own(self, searcher: int) -> dict[int, Part]:
        return {n: part for n, part in enumerate(self.parts) if part.searcher == searcher}

    def close(self) -> None:
        """Ends the actors; who still waits for one gets a ClusterError."""
        for actor in self.actors.values():
            self._ray.kill(actor, no_restart=True)
        self._threads.shutdown(wait=False, cancel_futures=True)


def _cut(folder: Path, manifest: Manifest, searchers: int) -> list[Part]:
    work = Workspace(folder)
    stores = [(segment.folder, ShardStore.open(work.segment(segment.folder).rows)) for segment in manifest.segments]
    return cut([(name, store.manifest) for name, store in stores], searchers)


def _start(ray: Any, *given: Any) -> Any:
    """An actor that Ray starts again, and asks again, as often as it must."""
    kind = ray.remote(
        num_cpus=1, max_restarts=-1, max_task_retries=-1, max_concurrency=_CALLS, scheduling_strategy="SPREAD"
    )(PartSearcher)
    return kind.remote(*given)


def nodes(ray: Any) -> int:
    """Of the cluster, alive."""
    return sum(bool(node["Alive"]) for node in ray.nodes())
