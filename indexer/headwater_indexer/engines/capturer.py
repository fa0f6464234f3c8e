"""A loaded model and what decides how documents become its rows: the same wherever it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from headwater_indexer.batches import Batch
from headwater_indexer.capture import capturing
from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.corpus import Document
from headwater_indexer.engines.engine import Recipe, Stored
from headwater_indexer.gradients import document_rows
from headwater_indexer.layers import Layer
from headwater_indexer.moments import MomentSums, sum_moments
from headwater_indexer.options import BuildOptions
from headwater_indexer.progress import Step
from headwater_indexer.windows import Encoder, LongDocuments


@dataclass(frozen=True, kw_only=True, eq=False)
class Capturer:
    """For one caller at a time: it hooks into the model."""

    checkpoint: Checkpoint
    encoder: Encoder
    layers: Sequence[Layer]
    batch_tokens: int
    long_documents: LongDocuments

    @classmethod
    def of(cls, checkpoint: Checkpoint, encoder: Encoder, layers: Sequence[Layer], options: BuildOptions) -> "Capturer":
        """That of a build with these options."""
        return cls(
            checkpoint=checkpoint,
            encoder=encoder,
            layers=layers,
            batch_tokens=options.batch_tokens,
            long_documents=options.long_documents,
        )

    def sums(self, batches: Sequence[Batch]) -> MomentSums:
        """The second moments' sums over these batches."""
        return sum_moments(self.checkpoint.model, self.layers, batches)

    @contextmanager
    def by(self, recipe: Recipe) -> Iterator[Callable[[Sequence[Document], Step], Stored]]:
        """Gives a function from the documents of a shard to what is stored of them; the hooks live as long as the
        `with`."""
        model, projections = self.checkpoint.model, recipe.projections
        with capturing(model, self.layers, projections, batch_tokens=self.batch_tokens) as capture:

            def stored(documents: Sequence[Document], step: Step) -> Stored:
                width, long = projections.layout.width, self.long_documents
                return recipe.stored(document_rows(capture, self.encoder, documents, width, long=long, step=step))

            yield stored
