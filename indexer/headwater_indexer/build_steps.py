"""The steps of a build. Each looks first whether it has been done, and leaves what it made in the folder."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import torch

from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.baselines.hidden_states import HiddenStates
from headwater_indexer.batches import Batch
from headwater_indexer.capture import capturing, cutting
from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.coded_search import coded_store, record_lengths
from headwater_indexer.codes.budget import RowPlan
from headwater_indexer.codes.coder import Coder
from headwater_indexer.corpus import read_documents
from headwater_indexer.documents import DocumentStore, DocumentWriter
from headwater_indexer.durable import flush
from headwater_indexer.ekfac.fitting import fit_factors
from headwater_indexer.engines.engine import Engine, Recipe, Stored
from headwater_indexer.errors import CorpusError
from headwater_indexer.estimate import Estimate, check_disk, check_memory, estimate_build, measure_rate
from headwater_indexer.gradients import (
    hessian_shards,
    sample_windows,
    shard_ranges,
)
from headwater_indexer.hessian import Whitener
from headwater_indexer.layers import Layer
from headwater_indexer.manifest import (
    File,
    HessianPart,
    Manifest,
    ModelPart,
    ProjectionPart,
    RowsPart,
    SearchPart,
    Segment,
    WindowsPart,
    describe_file,
)
from headwater_indexer.measured_recall import FEWEST, QUERIES, halves, measure
from headwater_indexer.memory import resident
from headwater_indexer.moments import mean_moments, sample_tokens
from headwater_indexer.options import BuildOptions
from headwater_indexer.plan import Rows, choose
from headwater_indexer.progress import Progress, counted
from headwater_indexer.projection import Projections, make_projections
from headwater_indexer.search import write_flat_index
from headwater_indexer.searching import open_exact, open_two_stage, sign_store
from headwater_indexer.signs.coder import SignCoder
from headwater_indexer.signs.scan import require_scan
from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.windows import Encoder
from headwater_indexer.workspace import Workspace

PROBE_TOKENS = (1024, 8192)  # the fewest and the most that are captured before the build, to tell how long it takes
MOMENT_PARTS = 8  # whose sums are taken apart, on one machine as on many, so that they are the same
PROBE_SHARE = 64  # one in so many of the corpus's tokens, between the two


@dataclass(frozen=True)
class BuildSteps:
    """What one build works with, and the verbs of its recipe."""

    checkpoint: Checkpoint
    encoder: Encoder
    layers: Sequence[Layer]
    options: BuildOptions
    plan: RowPlan
    work: Workspace
    engine: Engine
    progress: Progress

    def read(self, *corpora: str) -> DocumentStore:
        """The corpora in SQLite, with the number of windows and tokens of each document."""
        if not self.work.documents.exists():
            self._copy(corpora)
        store = DocumentStore(self.work.documents)
        if not store.tokens():
            raise CorpusError(
                f"{', '.join(corpora)} holds no document of two tokens or more: there is nothing to attribute to"
            )
        return store

    def _copy(self, corpora: Sequence[str]) -> None:
        unfinished, options = self.work.unfinished_documents, self.options
        with DocumentWriter(unfinished) as writer, self.progress.step("documents", None, "doc") as step:
            already = len(writer)
            streams = (read_documents(corpus, options.fields, split=options.split) for corpus in corpora)
            stream = chain.from_iterable(streams)
            for ordinal, document in enumerate(counted(stream, step)):
                if ordinal >= already:
                    windows = self.encoder.document(document, long=options.long_documents)
                    writer.add(document, windows=len(windows), tokens=sum(len(window.input_ids) for window in windows))
                elif not writer.matches(ordinal, document):
                    raise CorpusError(
                        f"{', '.join(corpora)}: document {document.id!r} has changed since the command was "
                        "interrupted: start again with --overwrite"
                    )
        flush(unfinished)
        unfinished.replace(self.work.documents)

    def estimate(self, store: DocumentStore, *, everything: bool, memory: int | None = None) -> Estimate:
        """What the rest will take, said; raises StorageError when the disk has not the room for it, and
        ConfigurationError when `memory` has not."""
        options = self.options
        fewest, most = PROBE_TOKENS
        probe = self._sample(store, min(most, max(fewest, store.tokens() // PROBE_SHARE)))
        projections = make_projections("random", self.layers, rank=self.plan.rank, seed=options.seed)
        with capturing(self.checkpoint.model, self.layers, projections, batch_tokens=options.batch_tokens) as capture:
            rate = measure_rate(capture.run, self._sample(store, 1)[0], probe)
        estimate = estimate_build(
            options,
            self.layers,
            self.plan,
            documents=len(store),
            windows=store.windows(),
            tokens=store.tokens(),
            tokens_per_second=rate * self.engine.workers,
            keep_gradients=everything,
        )
        self.progress.say(str(estimate))
        if not self.work.gradients.exists():
            check_disk(self.work.folder, estimate.disk_bytes)
        if memory is not None:
            check_memory(memory, estimate.memory_bytes)
        return estimate

    def plan_search(self, store: DocumentStore, memory: int | None) -> None:
        """Settles how the index will be searched, once: by two stages if there is a file of which columns' signs."""
        rows = Rows(documents=len(store), width=self.plan.width, record_bytes=self.plan.bytes, plain=self.plan.exact)
        if self.work.rows.exists():
            return
        left = None if memory is None else memory - resident()
        plan = choose(self.options.plan, rows, memory=left)
        self.progress.say(str(plan))
        if plan.kind == "two-stage":
            require_scan()
            SignCoder.make(rows.width, most=rows.sign_columns, seed=self.options.seed).save(self.work.sign_coder)

    def project(self, store: DocumentStore) -> Projections:
        """The projections, fitted on a sample of the corpus where their kind wants one."""
        path, options = self.work.projections, self.options
        if not path.exists():
            moments = None
            if options.projection != "random":
                tokens = sample_tokens(self.layers, corpus=store.tokens(), at_most=options.moment_tokens)
                sample = self._sample(store, tokens)
                with self.progress.step("second moments", len(sample), "batch") as step:
                    moments = mean_moments(self.engine.moments(_in_parts(sample), step))
            make_projections(
                options.projection, self.layers, rank=self.plan.rank, seed=options.seed, moments=moments
            ).save(path)
        return Projections.load(path)

    def fit_hessian(self, store: DocumentStore, projections: Projections, *, everything: bool) -> Whitener:
        """The Hessian, from the gradients of a sample of the shards or of all, which stay on the disk until then."""
        layout, options = projections.layout, self.options
        if not self.work.whitener.exists():
            gradients = self._capture_for_hessian(store, projections, everything=everything)
            passes = 2 if options.hessian == "ekfac" else 1
            with self.progress.step("Hessian", passes * len(gradients.manifest.shards), "shard") as step:
                Whitener.fit(
                    options.hessian,
                    lambda: (torch.from_numpy(block) for block in counted(gradients, step)),
                    layout,
                    damping=options.damping,
                ).save(self.work.whitener)
        return Whitener.load(self.work.whitener, layout)

    def _capture_for_hessian(self, store: DocumentStore, projections: Projections, *, everything: bool) -> ShardStore:
        """Begins at the first shard that is not there."""
        width = projections.layout.width
        gradients = ShardStore(self.work.gradients, width=width)
        wanted = hessian_shards(self.options, len(store), width, everything=everything)
        missing = [shard_ranges(len(store), width)[number] for number in wanted[len(gradients.manifest.shards) :]]
        with self.capturing_rows(store, Recipe(projections=projections), "gradients", missing) as blocks:
            for made in blocks:
                gradients.append(made.rows)
        return gradients

    def rows(
        self, store: DocumentStore, projections: Projections, whiten: Whitener, *, keep_gradients: bool
    ) -> ShardStore:
        """The whitened rows, as they are or in codes, shard by shard: of gradients that are on the disk, which then go,
        or captured here."""
        width, plan = projections.layout.width, self.plan
        coder = None if plan.exact else self._coder()
        rows = ShardStore(self.work.rows, width=width) if coder is None else coded_store(self.work, coder)
        gradients = ShardStore(self.work.gradients, width=width)
        fitted_on = hessian_shards(self.options, len(store), width, everything=keep_gradients)
        on_disk = dict(zip(fitted_on, gradients.manifest.shards, strict=False))
        signs = self._sign_coder()
        kept_signs = None if signs is None else sign_store(self.work, signs)
        ranges = list(enumerate(shard_ranges(len(store), width)))
        missing = ranges[len(rows.manifest.shards) :]
        captured = [ordinals for number, ordinals in missing if number not in on_disk]
        recipe = Recipe(projections=projections, whiten=whiten, coder=coder, signs=signs)
        with self.capturing_rows(store, recipe, "rows", captured) as blocks:
            for number, _ in missing:
                shard = on_disk.get(number)
                made = next(blocks) if shard is None else recipe.stored(gradients.read(shard))
                if kept_signs is not None and made.signs is not None and number == len(kept_signs.manifest.shards):
                    kept_signs.append(made.signs)
                rows.append(made.rows)
        if not keep_gradients:
            for shard in gradients.manifest.shards:
                gradients.discard(shard)
        return rows

    def _coder(self) -> Coder:
        plan, path, seed = self.plan, self.work.coder, self.options.seed
        if not path.exists():
            Coder.make(width=plan.width, columns=plan.columns, code_bytes=plan.code_bytes, seed=seed).save(path)
        return Coder.load(path).to(self.checkpoint.device)

    def _sign_coder(self) -> SignCoder | None:
        """None where the plan is exact search."""
        return SignCoder.load(self.work.sign_coder) if self.work.sign_coder.exists() else None

    @contextmanager
    def capturing_rows(
        self, store: DocumentStore, recipe: Recipe, name: str, shards: Sequence[range]
    ) -> Iterator[Iterator[Stored]]:
        """Gives what is stored of each shard, in their order."""
        tokens = sum(store.tokens(ordinals.stop) - store.tokens(ordinals.start) for ordinals in shards)
        documents = (store.by_ordinal(ordinals) for ordinals in shards)
        with self.progress.step(name, tokens, "tok") as step:
            blocks = self.engine.blocks(documents, recipe, step)
            with closing(blocks):
                yield blocks

    def finish(
        self,
        store: DocumentStore,
        projections: Projections,
        whiten: Whitener,
        *,
        inputs_sha256: str,
        keep_gradients: bool,
        hessian_of_all: bool,
    ) -> Manifest:
        """All that follows the Hessian, of which either a sample of the shards or all are on the disk; the index is
        whole when it returns."""
        rows = self.rows(store, projections, whiten, keep_gradients=hessian_of_all)
        without_gradient = self.index(rows)
        self.factors(store)
        self.baselines(store)
        search = self.measure_recall(store, projections, whiten)
        segment = self.segment(store, inputs_sha256, without_gradient, keep_gradients=keep_gradients)
        manifest = self.describe(segment, projections.layout.width, search)
        return self.work.finish(manifest, keep_gradients=keep_gradients)

    def index(self, rows: ShardStore) -> int:
        """The search index, where rows are not codes, which are searched as they are; returns how many documents have
        no gradient."""
        if not self.plan.exact:
            return int((record_lengths(RowReader.open(rows)) == 0).sum())
        with self.progress.step("search index", len(rows.manifest.shards), "shard") as step:
            norms = write_flat_index(self.work.search, self.work.norms, counted(rows, step), rows.manifest.width)
        return int((norms == 0).sum())

    def factors(self, store: DocumentStore) -> None:
        """The EK-FAC factors of unprojected gradients, where asked for, from a sample of the corpus."""
        options, path = self.options, self.work.factors
        if not options.factors or path.exists():
            return
        sample = sample_windows(self.encoder, store, tokens=options.factor_tokens, long=options.long_documents)
        with self.progress.step("EK-FAC factors", 2 * len(sample), "window") as step:
            fit_factors(
                path,
                self.checkpoint.model,
                self.layers,
                sample,
                batch_tokens=options.batch_tokens,
                advance=step.advance,
            )

    def baselines(self, store: DocumentStore) -> None:
        """The documents' words for BM25, and, where asked for, their mean hidden states."""
        if not self.work.full_text.exists():
            with self.progress.step("words", len(store), "doc") as step:
                FullText.write(self.work.full_text, counted(store, step))
        if not self.options.embeddings:
            return
        states = HiddenStates(self.checkpoint, batch_tokens=self.options.batch_tokens)
        kept = ShardStore(self.work.embeddings, width=states.width)
        with self.progress.step("hidden states", len(store), "doc") as step:
            for ordinals in shard_ranges(len(store), states.width)[len(kept.manifest.shards) :]:
                documents = counted(store.by_ordinal(ordinals), step)
                texts = (self.encoder.document(document, long=self.options.long_documents) for document in documents)
                kept.append(np.concatenate(list(states.blocks(texts))))

    def segment(
        self, store: DocumentStore, inputs_sha256: str, without_gradient: int, *, keep_gradients: bool
    ) -> Segment:
        """The documents in numbers, and the files that are theirs, with the SHA-256 of each."""
        return Segment(
            folder=self.work.folder.relative_to(self.work.root).as_posix(),
            created=int(time.time()),
            inputs_sha256=inputs_sha256,
            documents=len(store),
            documents_without_gradient=without_gradient,
            windows=store.windows(),
            tokens=store.tokens(),
            files=self._described(self.work.own_files(gradients=keep_gradients)),
        )

    def measure_recall(self, store: DocumentStore, projections: Projections, whiten: Whitener) -> SearchPart:
        """How the index is searched, and what that finds of what exact search finds."""
        if self._sign_coder() is None:
            return SearchPart()
        spread = np.unique(np.linspace(0, len(store) - 1, 4 * QUERIES).astype(np.int64)).tolist()
        documents = store.by_ordinal(spread)
        asked = halves(self.encoder, [(o, d.text) for o, d in zip(spread, documents, strict=True)])
        if not asked:
            self.progress.say("recall was not measured: no document has two halves of a word or more")
            return SearchPart(plan="two-stage", candidates=FEWEST)
        with capturing(
            self.checkpoint.model, self.layers, projections, batch_tokens=self.options.batch_tokens
        ) as capture:
            rows = whiten(capture([pair.window for _, pair in asked])).numpy()
        exact = open_exact(self.work, plain=self.plan.exact)
        quick = open_two_stage(self.work, self.plan.width, plain=self.plan.exact, candidates=FEWEST)
        found = measure(exact, quick, rows, [ordinal for ordinal, _ in asked])
        self.progress.say(str(found))
        return SearchPart(
            plan="two-stage",
            candidates=found.candidates,
            recall_at_10=found.at_10,
            recall_at_100=found.at_100,
            queries=found.queries,
        )

    def describe(self, segment: Segment, width: int, search: SearchPart) -> Manifest:
        """The manifest of an index whose only segment this is."""
        checkpoint, options = self.checkpoint, self.options
        return Manifest(
            headwater_version=version("headwater"),
            created=segment.created,
            model=ModelPart(
                id=checkpoint.id,
                revision=checkpoint.revision,
                architecture=type(checkpoint.model).__name__,
                dtype=checkpoint.dtype,
                weights_sha256=checkpoint.weights_sha256,
                tokenizer_sha256=checkpoint.tokenizer_sha256,
            ),
            layers=tuple(layer.name for layer in self.layers),
            projection=ProjectionPart(kind=options.projection, rank=self.plan.rank, seed=options.seed),
            hessian=HessianPart(kind=options.hessian, damping=options.damping),
            rows=RowsPart(columns=self.plan.columns, bits=self.plan.bits, bytes=self.plan.bytes),
            windows=WindowsPart(max_length=self.encoder.max_length, long_documents=options.long_documents),
            search=search,
            width=width,
            fitted_on=segment.documents,
            shared=self._described(self.work.shared_files()),
            segments=(segment,),
        )

    def _described(self, files: Sequence[Path]) -> tuple[File, ...]:
        with self.progress.step("checksums", len(files), "file") as step:
            return tuple(describe_file(self.work.root, file) for file in counted(files, step))

    def _sample(self, store: DocumentStore, tokens: int) -> list[Batch]:
        windows = sample_windows(self.encoder, store, tokens=tokens, long=self.options.long_documents)
        return list(cutting(self.checkpoint.model)(windows, self.options.batch_tokens))


def _in_parts(sample: Sequence[Batch]) -> list[Sequence[Batch]]:
    """Successive batches in MOMENT_PARTS parts, or in as many as there are batches."""
    cuts = [len(sample) * part // MOMENT_PARTS for part in range(MOMENT_PARTS + 1)]
    return [sample[start:stop] for start, stop in pairwise(cuts) if start < stop]
