"""What a build asks of the place where its model runs, and what a shard becomes there.

Documents and batches go in, arrays come out in the order in which they were asked for, so that whoever asks writes the
same files whatever ran where.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float32, UInt8
from numpy import ndarray

from headwater_indexer.batches import Batch
from headwater_indexer.codes.coder import Coder
from headwater_indexer.corpus import Document
from headwater_indexer.hessian import Whitener
from headwater_indexer.moments import MomentSums
from headwater_indexer.progress import Step
from headwater_indexer.projection import Projections
from headwater_indexer.signs.coder import SignCoder

Gradients = Float32[ndarray, "documents width"]
Records = UInt8[ndarray, "documents bytes"]


class Stored(NamedTuple):
    """What shards hold of some documents."""

    rows: Gradients | Records
    signs: Records | None  # for a search by two stages


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """How documents become what a shard holds: gradients through projections, whitened and coded if that is given."""

    projections: Projections
    whiten: Whitener | None = None
    coder: Coder | None = None
    signs: SignCoder | None = None

    def on(self, device: torch.device) -> "Recipe":
        """The same, with the coder where the model is; the rest is wanted on the CPU."""
        return self if self.coder is None else replace(self, coder=self.coder.to(device))

    def stored(self, gradients: Gradients) -> Stored:
        """What is kept of these gradients."""
        if self.whiten is None:
            return Stored(gradients, None)
        whitened: Gradients = self.whiten(torch.from_numpy(gradients)).numpy()
        signs = None if self.signs is None else self.signs.encode(whitened)
        return Stored(whitened if self.coder is None else self.coder.encode(whitened), signs)


class Engine(Protocol):
    """Runs the model. One call at a time; what it gives is taken to its end, or closed."""

    workers: int  # that capture side by side

    def moments(self, parts: Sequence[Sequence[Batch]], step: Step) -> Iterator[MomentSums]:
        """The sums of each part, in the order of the parts; a step is a batch."""

    def blocks(self, shards: Iterable[Sequence[Document]], recipe: Recipe, step: Step) -> Generator[Stored, None, None]:
        """What is stored of each shard's documents, in the order of the shards; a step is a token.

        Raises NonFiniteGradient with the document's id.
        """

    def close(self) -> None: ...
