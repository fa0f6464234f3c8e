"""Captures in this process, one shard after the other."""

from collections.abc import Generator, Iterable, Iterator, Sequence

from headwater_indexer.batches import Batch
from headwater_indexer.corpus import Document
from headwater_indexer.engines.capturer import Capturer
from headwater_indexer.engines.engine import Recipe, Stored
from headwater_indexer.moments import MomentSums
from headwater_indexer.progress import Step, counted


class LocalEngine:
    """The engine of one machine, whose model the build has loaded."""

    workers = 1

    def __init__(self, capturer: Capturer) -> None:
        self._capturer = capturer

    def moments(self, parts: Sequence[Sequence[Batch]], step: Step) -> Iterator[MomentSums]:
        return (self._capturer.sums(list(counted(part, step))) for part in parts)

    def blocks(self, shards: Iterable[Sequence[Document]], recipe: Recipe, step: Step) -> Generator[Stored, None, None]:
        with self._capturer.by(recipe) as stored:
            for documents in shards:
                yield stored(documents, step)

    def close(self) -> None:
        """There is nothing to stop."""
