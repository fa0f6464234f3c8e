"""Scores chosen documents again, with unprojected gradients and EK-FAC, and steps past it where asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.documents import Documents
from headwater_indexer.ekfac.factors import Factors, Gradients
from headwater_indexer.ekfac.gauss_newton import GaussNewton
from headwater_indexer.ekfac.influence import summed_gradients, token_influences, window_influences
from headwater_indexer.ekfac.refining import Steps, refine, repeat
from headwater_indexer.errors import UsageError
from headwater_indexer.gradients import sample_windows
from headwater_indexer.layers import Layer
from headwater_indexer.windows import Encoder, LongDocuments, Pair, Window

BATCH_TOKENS = 4096
REFINING_BATCH_TOKENS = 2048  # its graphs are larger
REFINING_TOKENS = 32_768  # of the sample that refinement sees; more of them changed nothing that could be measured
REFINING_DAMPING = 1e-3  # of EK-FAC as a preconditioner; of 1e-4, 1e-3 and 1e-2 the best: LDS 0.769, 0.779, 0.775
HELD_OUT = 4  # one window of so many is for the rule that ends the steps
DOCUMENTS_AT_ONCE = 256
DIRECTION_BYTES = 2 << 30  # of preconditioned gradients in memory together, and at least one query's
COPIES = {False: 2, True: 7}  # of a query's gradient that are in memory at once, without and with refinement


@dataclass(frozen=True)
class Rescorer:
    """What rescoring needs of an index. For one caller at a time: it runs the model."""

    checkpoint: Checkpoint
    layers: Sequence[Layer]
    factors: Factors
    documents: Documents
    encoder: Encoder
    long_documents: LongDocuments
    damping: float  # of refinement, over each layer's mean eigenvalue

    def __call__(
        self, pairs: Sequence[Pair], ordinals: Sequence[Sequence[int]] | None, *, refine: int = 0
    ) -> list[Float32[np.ndarray, " candidates"]]:
        """The influence of each pair's documents on it; of all documents where `ordinals` is None."""
        wanted = [range(len(self.documents))] * len(pairs) if ordinals is None else ordinals
        if len(wanted) != len(pairs):
            raise UsageError(f"{len(wanted)} lists of candidates for {len(pairs)} pairs: give one for each")
        found: list[Float32[np.ndarray, " candidates"]] = []
        size = self._queries_at_once(refining=refine > 0)
        for start in range(0, len(pairs), size):
            group = slice(start, start + size)
            directions, _ = self.directions([pair.window for pair in pairs[group]], refine=refine)
            found += self._scores(directions, wanted[group])
        return found

    def directions(self, windows: Sequence[Window], *, refine: int) -> tuple[Gradients, Steps]:
        """The preconditioned gradients of windows, one each, and the steps that refined them."""
        if refine < 0:
            raise UsageError(f"refine {refine}: it is a number of steps, 0 or more")
        gradients = self.gradients(windows, range(len(windows)))
        if refine == 0:
            return self.factors.precondition(gradients), Steps([], [])
        return self._refined(gradients, refine)

    def exchanged(self, windows: Sequence[Window], owners: Sequence[int], steps: Steps) -> Gradients:
        """The preconditioned gradients of documents, by the very steps that refined a query's."""
        gradients = self.gradients(windows, owners)
        if not steps.lengths:
            return self.factors.precondition(gradients)
        sample, _ = self._curvatures
        return repeat(gradients, self._precondition, sample, self._lambdas, steps)

    def gradients(self, windows: Sequence[Window], owners: Sequence[int]) -> Gradients:
        """The unprojected gradient of each owner."""
        return summed_gradients(self.checkpoint.model, self.layers, windows, owners, batch_tokens=BATCH_TOKENS)

    def influences(self, directions: Gradients, windows: Sequence[Window]) -> Float32[np.ndarray, "queries windows"]:
        return window_influences(
            self.checkpoint.model, self.layers, directions, windows, batch_tokens=BATCH_TOKENS
        ).numpy()

    def by_position(self, direction: Gradients, windows: Sequence[Window]) -> list[Float32[np.ndarray, " time"]]:
        """Of each position of each window, on one query."""
        return token_influences(self.checkpoint.model, self.layers, direction, windows, batch_tokens=BATCH_TOKENS)

    def windows_of(self, ordinals: Sequence[int]) -> tuple[list[Window], list[int]]:
        """The windows of documents, and the place in `ordinals` of each window's document."""
        windows: list[Window] = []
        owners: list[int] = []
        for place, document in enumerate(self.documents.by_ordinal(ordinals)):
            own = self.encoder.document(document, long=self.long_documents)
            windows += own
            owners += [place] * len(own)
        return windows, owners

    def _scores(
        self, directions: Gradients, wanted: Sequence[Sequence[int]]
    ) -> list[Float32[np.ndarray, " candidates"]]:
        """One pass over all that any query wants, for all queries."""
        own = [np.asarray(ordinals, dtype=np.int64) for ordinals in wanted]
        union = np.unique(np.concatenate(own))
        scores = np.zeros((len(union), len(own)), dtype=np.float32)
        for start in range(0, len(union), DOCUMENTS_AT_ONCE):
            windows, owners = self.windows_of(union[start : start + DOCUMENTS_AT_ONCE].tolist())
            if windows:
                np.add.at(scores, start + np.asarray(owners), self.influences(directions, windows).T)
        return [scores[np.searchsorted(union, ordinals), place] for place, ordinals in enumerate(own)]

    def _refined(self, gradients: Gradients, steps: int) -> tuple[Gradients, Steps]:
        # The first step from zero gives EK-FAC's own direction, so that `steps` more go past it.
        sample, held_out = self._curvatures
        return refine(gradients, self._precondition, sample, held_out, self._lambdas, steps + 1)

    def _precondition(self, gradients: Mapping[str, Tensor]) -> Gradients:
        return self.factors.precondition(gradients, damping=REFINING_DAMPING)

    @cached_property
    def _curvatures(self) -> tuple[GaussNewton, GaussNewton]:
        """Of the sample that is fitted to, and of the part that is held out."""
        windows = sample_windows(self.encoder, self.documents, tokens=REFINING_TOKENS, long=self.long_documents)
        held_out = windows[::HELD_OUT]
        fitted = [window for place, window in enumerate(windows) if place % HELD_OUT] or held_out
        model = self.checkpoint.model
        parts = [
            GaussNewton(model, self.layers, part, batch_tokens=REFINING_BATCH_TOKENS) for part in (fitted, held_out)
        ]
        return parts[0], parts[1]

    @cached_property
    def _lambdas(self) -> dict[str, float]:
        return {name: self.damping * mean for name, mean in self.factors.mean_eigenvalues().items()}

    def _queries_at_once(self, *, refining: bool) -> int:
        weights = sum(layer.in_dim * layer.out_dim for layer in self.layers)
        return max(1, DIRECTION_BYTES // (4 * weights * COPIES[refining]))
