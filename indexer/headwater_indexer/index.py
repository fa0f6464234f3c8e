"""An index opened for questions: its folder verified, its model loaded, and one inner product a document."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Int64

from headwater_indexer.baselines.all_words import AllWords
from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.baselines.hidden_states import HiddenStates, cosines
from headwater_indexer.baselines.matrix import BaselineKind, Question, bm25_scores, question_states
from headwater_indexer.capture import capturing
from headwater_indexer.catalogue import Catalogue, numbering_of
from headwater_indexer.checkpoint import Checkpoint, load_checkpoint
from headwater_indexer.coded_search import CodedSearch
from headwater_indexer.documents import DocumentStore
from headwater_indexer.ekfac.explaining import Explanation, explain
from headwater_indexer.ekfac.factors import Factors
from headwater_indexer.ekfac.rescoring import Rescorer
from headwater_indexer.errors import ConfigurationError, IndexDamaged
from headwater_indexer.hessian import Whitener
from headwater_indexer.layers import Layer, watchable_layers
from headwater_indexer.manifest import Manifest, verify_file
from headwater_indexer.memory import resident
from headwater_indexer.numbering import Numbering
from headwater_indexer.plan import AskedPlan, Plan, Rows, choose
from headwater_indexer.progress import Progress, Silent, counted
from headwater_indexer.projection import Projections
from headwater_indexer.search import FlatSearch, Hit, ScoreKind, Sign, gpus
from headwater_indexer.searching import open_exact, open_two_stage
from headwater_indexer.segments import SegmentedSearch
from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.two_stage import TwoStageSearch
from headwater_indexer.windows import Encoder, Pair, Span, Window
from headwater_indexer.workspace import Workspace

__all__ = ["Explanation", "Hit", "Index", "Pair", "verify_index"]

QUERY_BATCH_TOKENS = 8192


def verify_index(folder: Path, progress: Progress | None = None) -> Manifest:
    """Checks every file of an index against its manifest. Raises IndexDamaged with the first that does not fit."""
    manifest = Manifest.read(folder)
    with (progress or Silent()).step("verifying", len(manifest.files), "file") as step:
        for file in counted(manifest.files, step):
            verify_file(folder, file)
    return manifest


def load_checkpoint_of(
    folder: Path, manifest: Manifest, *, model: str | None, device: str, gradient_checkpointing: bool = False
) -> Checkpoint:
    """The model that an index was made with, from `model` if it has moved since.

    Raises IndexDamaged for other weights or another tokenizer, ModelError when it cannot be loaded.
    """
    checkpoint = load_checkpoint(
        model or manifest.model.id,
        revision=None if model else manifest.model.revision,
        device=device,
        dtype=manifest.model.dtype,
        gradient_checkpointing=gradient_checkpointing,
    )
    for part, ours, theirs in (
        ("weights", checkpoint.weights_sha256, manifest.model.weights_sha256),
        ("tokenizer", checkpoint.tokenizer_sha256, manifest.model.tokenizer_sha256),
    ):
        if ours != theirs:
            raise IndexDamaged(
                f"{folder} was made with other {part} than {checkpoint.id} has now (SHA-256 {theirs[:12]} in the "
                f"index, {ours[:12]} loaded): give the model that it was built for with --model, or build it again"
            )
    return checkpoint


class Elsewhere(Protocol):
    """What searches an index in other processes."""

    search: SegmentedSearch

    def close(self) -> None: ...


Spread = Callable[[Path, Manifest, Numbering, Plan], Elsewhere]


class Index:
    """Documents, rows and the model whose gradients they are. `rows` wants one caller at a time, the rest do not."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        checkpoint: Checkpoint,
        *,
        plan: AskedPlan = "auto",
        memory: int | None = None,
        spread: Spread | None = None,
        progress: Progress | None = None,
    ) -> None:
        work = Workspace(folder)
        self.folder = folder
        self.manifest = manifest
        parts = [work.segment(segment.folder) for segment in manifest.segments]
        self._numbering = numbering_of(folder, manifest)
        self.documents = Catalogue([DocumentStore(part.documents) for part in parts], self._numbering)
        self._checkpoint = checkpoint
        self._projections = Projections.load(work.projections)
        self._whiten = Whitener.load(work.whitener, self._projections.layout)
        self.plan = plan_of(manifest, parts, plan, memory)
        (progress or Silent()).say(str(self.plan))
        self._elsewhere = None if spread is None else spread(folder, manifest, self._numbering, self.plan)
        if self._elsewhere is not None:
            self._search = self._elsewhere.search
        else:
            searches = [_open_search(part, manifest, self.plan) for part in parts]
            self._search = SegmentedSearch(searches, self._numbering)
        self._words = AllWords([FullText.open(part.full_text) for part in parts], self._numbering)
        self._states = _states(parts)
        self._layers = named_layers(checkpoint, manifest)
        self._encoder = Encoder(checkpoint.tokenizer, manifest.windows.max_length)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        device: str = "auto",
        model: str | None = None,
        loaded: Iterable[Checkpoint] = (),
        plan: AskedPlan = "auto",
        memory: int | None = None,
        spread: Spread | None = None,
        progress: Progress | None = None,
    ) -> "Index":
        """Verifies the folder and loads its model, from `model` if the one of the build has moved.

        `plan` is how it is searched, and `memory` the most that this process may hold in bytes; `spread` starts what
        searches it elsewhere.

        One of `loaded` is taken instead where it has the same weights and tokenizer: two indexes may share a model,
        which wants one caller at a time for both.
        Raises IndexDamaged for a folder that is incomplete, altered or of another format, or made with other weights
        or another tokenizer than it loads; ModelError when the model cannot be loaded.
        """
        folder = folder.resolve()  # a link to it may lead elsewhere while this one is served
        manifest = Manifest.read(folder)

        def opened() -> "Index":
            there = verify_index(folder, progress)
            checkpoint = next((shared for shared in loaded if _made_with(there, shared)), None)
            if checkpoint is None:
                checkpoint = load_checkpoint_of(folder, there, model=model, device=device)
            return cls(folder, there, checkpoint, plan=plan, memory=memory, spread=spread, progress=progress)

        try:
            return opened()
        except (IndexDamaged, OSError):
            if Manifest.read(folder).version == manifest.version:
                raise
        return opened()  # a change has replaced its files meanwhile

    @property
    def checkpoint(self) -> Checkpoint:
        """The model that the rows are gradients of, and its tokenizer."""
        return self._checkpoint

    @cached_property
    def norms(self) -> Float[np.ndarray, " documents"]:
        """The lengths of the documents' rows: the square roots of their self-influence."""
        return self._search.norms

    def windows(self, ordinal: int) -> list[Window]:
        """A document as the model saw it in the build."""
        (document,) = self.documents.by_ordinal([ordinal])
        return self._encoder.document(document, long=self.manifest.windows.long_documents)

    def encode(self, prompt: str, response: str, *, span: Span | None = None) -> Pair:
        """The pair in tokens; with `span`, only the response's tokens that overlap these characters count.

        Raises PairError when it cannot be attributed.
        """
        return self._encoder.pair(prompt, response, span=span)

    def encode_messages(self, messages: list[dict[str, str]], response: str, *, span: Span | None = None) -> Pair:
        """A conversation, through the model's chat template, and the answer to it, in tokens. Raises PairError."""
        return self._encoder.messages(messages, response, span=span)

    def encode_truncated(self, prompt: str, response: str) -> Pair:
        """As `encode`, but what is too long is cut as training scripts cut it: the beginning is kept."""
        return self._encoder.truncated_pair(prompt, response)

    def rows(self, pairs: Sequence[Pair]) -> Float32[np.ndarray, "pairs width"]:
        """The whitened rows of pairs, by one forward and backward pass. Raises NonFiniteGradient with the position."""
        with capturing(
            self._checkpoint.model, self._layers, self._projections, batch_tokens=QUERY_BATCH_TOKENS
        ) as capture:
            whitened: Float32[np.ndarray, "pairs width"] = self._whiten(
                capture([pair.window for pair in pairs])
            ).numpy()
        return whitened

    def search(
        self,
        rows: Float32[np.ndarray, "pairs width"],
        *,
        top_k: int,
        score: ScoreKind = "relatif",
        sign: Sign = "positive",
        among: Int64[np.ndarray, " ordinals"] | None = None,
    ) -> list[list[Hit]]:
        """The `top_k` most influential documents for each row; with `negative` those that work against it most.

        With `among`, of these documents alone; `documents.matching` finds them.
        """
        return self._search(rows, top_k=top_k, score=score, sign=sign, among=among)

    def influences(
        self, rows: Float32[np.ndarray, "pairs width"], among: Int64[np.ndarray, " ordinals"] | None = None
    ) -> Float32[np.ndarray, "pairs searched"]:
        """The influence of every document, or of those of `among`, on every pair, by a pass over their stored rows."""
        return self._search.influences(rows, among)

    @property
    def takes_messages(self) -> bool:
        """Whether the model's tokenizer has a chat template, which `encode_messages` needs."""
        return bool(self._checkpoint.tokenizer.chat_template)

    @property
    def can_rescore(self) -> bool:
        """Whether the build kept the factors that `rescore` and `explain` need."""
        return Workspace(self.folder).factors.exists()

    def rescore(
        self, pairs: Sequence[Pair], ordinals: Sequence[Sequence[int]] | None, *, refine: int = 0
    ) -> list[Float32[np.ndarray, " candidates"]]:
        """The influence of each pair's documents on it, by unprojected gradients and EK-FAC; of all documents where
        `ordinals` is None. One forward and backward pass over the documents serves all pairs.

        `refine` steps of conjugate gradients on the Gauss-Newton matrix go past EK-FAC; the scores are then of another
        scale. Each step costs about two forward passes over a sample of 32,768 tokens for each pair. Like `rows` this
        wants one caller at a time. Raises ConfigurationError when the build kept no factors.
        """
        return self._rescorer(pairs, ordinals, refine=refine)

    def explain(self, pair: Pair, ordinals: Sequence[int], *, refine: int = 0) -> list[Explanation]:
        """The tokens that the influence of each document on the pair is made of. Raises ConfigurationError likewise."""
        return explain(self._rescorer, pair, ordinals, refine=refine)

    @cached_property
    def _rescorer(self) -> Rescorer:
        if not self.can_rescore:
            raise ConfigurationError(
                f"{self.folder} was built without --factors, so its documents cannot be scored again: "
                "build it with them"
            )
        return Rescorer(
            checkpoint=self._checkpoint,
            layers=self._layers,
            factors=Factors(Workspace(self.folder).factors),
            documents=self.documents,
            encoder=self._encoder,
            long_documents=self.manifest.windows.long_documents,
            damping=self.manifest.hessian.damping,
        )

    @property
    def keeps_hidden_states(self) -> bool:
        """Whether the build kept what the baseline `hidden-states` compares with."""
        return self._states is not None

    def baseline(self, kind: BaselineKind, questions: Sequence[Question]) -> Float32[np.ndarray, "questions documents"]:
        """Scores of all documents by their words, or by the model's states: for (prompt, response) questions.

        Raises ConfigurationError for hidden states that the build was not asked to keep.
        """
        if kind == "bm25":
            return bm25_scores(self._words, questions)
        states = HiddenStates(self._checkpoint)
        return cosines(question_states(states, self._encoder, questions), self._document_states)

    @cached_property
    def _document_states(self) -> Float32[np.ndarray, "documents width"]:
        if self._states is None:
            raise ConfigurationError(f"{self.folder} was built without --embeddings, so it has no hidden states")
        stored = np.concatenate([rows.gather(np.arange(len(rows))) for rows in self._states])
        return np.delete(stored, self._numbering.removed, axis=0)

    def close(self) -> None:
        """Closes the files that stay open while the index is served."""
        self.documents.close()
        self._words.close()
        if self._elsewhere is not None:
            self._elsewhere.close()


def _made_with(manifest: Manifest, checkpoint: Checkpoint) -> bool:
    """Whether the rows are gradients of these very weights, in this precision, of texts cut by this tokenizer."""
    part = manifest.model
    return (part.weights_sha256, part.tokenizer_sha256, part.dtype) == (
        checkpoint.weights_sha256,
        checkpoint.tokenizer_sha256,
        checkpoint.dtype,
    )


def _states(parts: Sequence[Workspace]) -> list[RowReader] | None:
    """The hidden states of each segment, in open files; None where they were not kept."""
    if not all(part.embeddings.exists() for part in parts):
        return None
    return [RowReader.open(ShardStore.open(part.embeddings)) for part in parts]


def plan_of(manifest: Manifest, parts: Sequence[Workspace], asked: AskedPlan, memory: int | None) -> Plan:
    """How the index is searched by this process. Raises ConfigurationError when that cannot be."""
    rows = Rows(
        documents=sum(segment.documents for segment in manifest.segments),
        width=manifest.width,
        record_bytes=manifest.rows.bytes,
        plain=manifest.rows.bits == 32,
    )
    signs = manifest.search.candidates is not None and all(part.signs.exists() for part in parts)
    left = None if memory is None else memory - resident()
    return choose(asked, rows, memory=left, gpu=gpus() > 0, signs=signs)


def _open_search(work: Workspace, manifest: Manifest, plan: Plan) -> FlatSearch | CodedSearch | TwoStageSearch:
    plain, candidates = manifest.rows.bits == 32, manifest.search.candidates
    if plan.kind == "exact" or candidates is None:
        return open_exact(work, plain=plain)
    return open_two_stage(work, manifest.width, plain=plain, candidates=candidates)


def named_layers(checkpoint: Checkpoint, manifest: Manifest) -> list[Layer]:
    """The layers that the rows are made of, in their order."""
    by_name = watchable_layers(checkpoint.model)
    return [by_name[name] for name in manifest.layers]
