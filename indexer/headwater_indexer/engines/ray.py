"""Captures in the workers of a Ray cluster: one model each, a shard's documents at a time.

The driver reads the documents and writes the shards, in their order, so that the folder is the one that a single
machine would have made. A worker that dies is replaced, and the shard in its hands captured again.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from headwater_indexer.batches import Batch
from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.corpus import Document
from headwater_indexer.engines.capturer import Capturer
from headwater_indexer.engines.cluster import import_ray, joined, room_for, share_of_worker
from headwater_indexer.engines.engine import Recipe, Stored
from headwater_indexer.engines.options import EngineOptions
from headwater_indexer.engines.pool import Pool
from headwater_indexer.errors import ModelError
from headwater_indexer.layers import watchable_layers
from headwater_indexer.moments import MomentSums
from headwater_indexer.progress import Step
from headwater_indexer.windows import Encoder, LongDocuments


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a worker comes by the build's model, and by what it must know it."""

    model: str
    revision: str | None
    device: str
    dtype: str
    gradient_checkpointing: bool
    weights_sha256: str
    tokenizer_sha256: str
    layers: tuple[str, ...]
    max_length: int
    batch_tokens: int
    long_documents: LongDocuments

    @classmethod
    def like(cls, capturer: Capturer, *, device: str, gradient_checkpointing: bool) -> "Loading":
        """The model that the driver has loaded, on the worker's own `device`."""
        checkpoint = capturer.checkpoint
        return cls(
            model=checkpoint.id,
            revision=checkpoint.revision,
            device=device,
            dtype=checkpoint.dtype,
            gradient_checkpointing=gradient_checkpointing,
            weights_sha256=checkpoint.weights_sha256,
            tokenizer_sha256=checkpoint.tokenizer_sha256,
            layers=tuple(layer.name for layer in capturer.layers),
            max_length=capturer.encoder.max_length,
            batch_tokens=capturer.batch_tokens,
            long_documents=capturer.long_documents,
        )

    def capturer(self) -> Capturer:
        """Raises ModelError when the model cannot be loaded here, or is another."""
        checkpoint = load_checkpoint(
            self.model,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            gradient_checkpointing=self.gradient_checkpointing,
        )
        found = (checkpoint.weights_sha256, checkpoint.tokenizer_sha256)
        if found != (self.weights_sha256, self.tokenizer_sha256):
            raise ModelError(
                f"a worker has other weights or another tokenizer in {self.model} than the driver: give every node "
                "the same model, on shared storage or from the hub"
            )
        by_name = watchable_layers(checkpoint.model)
        return Capturer(
            checkpoint=checkpoint,
            encoder=Encoder(checkpoint.tokenizer, self.max_length),
            layers=[by_name[name] for name in self.layers],
            batch_tokens=self.batch_tokens,
            long_documents=self.long_documents,
        )


class CaptureWorker:
    """What an actor is made of. It loads its model when it is first asked whether it is ready."""

    def __init__(self, loading: Loading) -> None:
        self._loading = loading
        self._recipe: tuple[int, Recipe] | None = None

    @cached_property
    def _capturer(self) -> Capturer:
        return self._loading.capturer()

    def ready(self) -> bool:
        return self._capturer is not None

    def sums(self, batches: Sequence[Batch]) -> MomentSums:
        return self._capturer.sums(batches)

    def block(self, number: int, recipe: Sequence[Any], documents: Sequence[Document]) -> tuple[Stored, int]:
        """What is stored of these documents, and their tokens. The recipe, a reference in a list, is fetched once for
        each `number`."""
        if self._recipe is None or self._recipe[0] != number:
            fetched = import_ray().get(recipe[0])
            self._recipe = (number, fetched.on(self._capturer.checkpoint.device))
        tokens = _Counter()
        with self._capturer.by(self._recipe[1]) as stored:
            return stored(documents, tokens), tokens.count


class _Counter:
    """Counts what a worker captures, for the driver to tell."""

    count = 0

    def __enter__(self) -> "_Counter":
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, count: int) -> None:
        self.count += count


class RayEngine:
    """Holds its actors, and its connection to the cluster, until it is closed."""

    def __init__(self, loading: Loading, options: EngineOptions) -> None:
        self._recipes = 0
        with ExitStack() as stack:
            ray = self._ray = stack.enter_context(joined())
            share = share_of_worker(ray, options.gpus_per_worker)
            self.workers = options.workers or room_for(ray, share)
            actor = ray.remote(max_restarts=0, scheduling_strategy="SPREAD", **share)(CaptureWorker)
            self.pool: Pool[Any, Any] = Pool(ray, partial(actor.remote, loading), self.workers)
            stack.callback(self.pool.close)
            self._stack = stack.pop_all()

    def moments(self, parts: Sequence[Sequence[Batch]], step: Step) -> Iterator[MomentSums]:
        sums: Iterator[MomentSums] = self.pool.map(lambda actor, part: actor.sums.remote(part), parts)
        for part, found in zip(parts, sums, strict=True):
            step.advance(len(part))
            yield found

    def blocks(self, shards: Iterable[Sequence[Document]], recipe: Recipe, step: Step) -> Generator[Stored, None, None]:
        self._recipes += 1
        number, kept = self._recipes, [self._ray.put(recipe.on(torch.device("cpu")))]
        blocks: Iterator[tuple[Stored, int]] = self.pool.map(
            lambda actor, documents: actor.block.remote(number, kept, documents), shards
        )
        for block, tokens in blocks:
            step.advance(tokens)
            yield block

    def close(self) -> None:
        self._stack.close()
