"""The build: documents in, a folder out that a server can answer from.

Each step is kept, so that a killed build goes on where it was: at most one shard is captured twice.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from headwater_indexer.capture import capturing
from headwater_indexer.checkpoint import Checkpoint, load_checkpoint
from headwater_indexer.corpus import read_documents
from headwater_indexer.documents import DocumentStore, DocumentWriter
from headwater_indexer.durable import flush, storage_errors
from headwater_indexer.errors import CorpusError
from headwater_indexer.estimate import Estimate, check_disk, estimate_build, measure_rate
from headwater_indexer.gradients import document_rows, sample_batches, shard_ranges
from headwater_indexer.hessian import Whitener
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.manifest import HessianPart, Manifest, ModelPart, ProjectionPart, WindowsPart, describe_file
from headwater_indexer.moments import measure_moments
from headwater_indexer.options import BuildOptions, fingerprint
from headwater_indexer.progress import Progress, Silent, counted
from headwater_indexer.projection import Projections, make_projections
from headwater_indexer.search import import_faiss, write_flat_index
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.windows import Encoder
from headwater_indexer.workspace import Workspace, working_in

PROBE_TOKENS = 8192  # captured once before the build, to tell how long it will take


def build_index(
    model: str,
    documents: str,
    out: Path,
    options: BuildOptions | None = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    keep_gradients: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Builds the index of `documents` (a file, a folder, or a dataset's name) for `model` in the folder `out`.

    The same call after an interruption resumes, and after success returns at once. Raises HeadwaterError with what
    was wrong, where, and what to do; what was finished stays in the folder.
    """
    options = options or BuildOptions()
    progress = progress or Silent()
    import_faiss()  # a missing package is told before the work, not after it
    with working_in(out) as work, storage_errors(out):
        checkpoint = load_checkpoint(model, revision=revision, device=device, dtype=options.dtype)
        encoder = Encoder(checkpoint.tokenizer, options.window_length(checkpoint))
        layers = select_layers(checkpoint.model, options.layers)
        _say_clipped(layers, options.rank, progress)
        key = fingerprint(options, checkpoint, documents)
        if (done := work.begin(key, overwrite=overwrite)) is not None:
            progress.say(f"{out} is already built from these inputs")
            return done

        store = _read_corpus(documents, encoder, options, work, progress)
        estimate = _estimate(checkpoint, layers, encoder, store, options)
        progress.say(str(estimate))
        if not work.rows.exists():
            check_disk(out, estimate.disk_bytes)
        projections = _fit_projections(checkpoint, layers, encoder, store, options, work, progress)
        gradients = _capture(checkpoint, layers, encoder, store, projections, options, work, progress)
        rows = _whiten(gradients, projections, options, work, progress, keep=keep_gradients)
        norms = _write_search(rows, work, progress)

        kept = work.files(gradients=keep_gradients)
        with progress.step("checksums", len(kept), "file") as step:
            files = tuple(describe_file(out, file) for file in counted(kept, step))
        manifest = Manifest(
            headwater_version=version("headwater"),
            created=int(time.time()),
            inputs_sha256=key,
            model=ModelPart(
                id=checkpoint.id,
                revision=checkpoint.revision,
                architecture=type(checkpoint.model).__name__,
                dtype=checkpoint.dtype,
                weights_sha256=checkpoint.weights_sha256,
                tokenizer_sha256=checkpoint.tokenizer_sha256,
            ),
            layers=tuple(layer.name for layer in layers),
            projection=ProjectionPart(kind=options.projection, rank=options.rank, seed=options.seed),
            hessian=HessianPart(kind=options.hessian, damping=options.damping),
            windows=WindowsPart(
                max_length=encoder.max_length, long_documents=options.long_documents, count=estimate.windows
            ),
            documents=estimate.documents,
            documents_without_gradient=int((norms == 0).sum()),
            tokens=estimate.tokens,
            width=estimate.width,
            files=files,
        )
        work.finish(manifest, keep_gradients=keep_gradients)
        return manifest


def _say_clipped(layers: Sequence[Layer], rank: int, progress: Progress) -> None:
    clipped = [layer for layer in layers if min(layer.in_dim, layer.out_dim) < rank]
    if clipped:
        narrowest = min(min(layer.in_dim, layer.out_dim) for layer in clipped)
        progress.say(
            f"rank {rank} is above the width of {len(clipped)} of {len(layers)} layers (the narrowest has {narrowest})"
            ": clipped to the width there"
        )


def _read_corpus(
    documents: str, encoder: Encoder, options: BuildOptions, work: Workspace, progress: Progress
) -> DocumentStore:
    if not work.documents.exists():
        with DocumentWriter(work.unfinished_documents) as writer, progress.step("documents", None, "doc") as step:
            already = len(writer)
            for ordinal, document in enumerate(read_documents(documents, options.fields, split=options.split)):
                step.advance(1)
                if ordinal < already:
                    if not writer.matches(ordinal, document):
                        raise CorpusError(
                            f"{documents}: document {document.id!r} has changed since the build was interrupted: "
                            "start again with --overwrite"
                        )
                    continue
                windows = encoder.document(document, long=options.long_documents)
                writer.add(document, windows=len(windows), tokens=sum(len(window.input_ids) for window in windows))
        with storage_errors(work.documents):
            flush(work.unfinished_documents)
            work.unfinished_documents.replace(work.documents)
    store = DocumentStore(work.documents)
    if not store.tokens():
        raise CorpusError(f"{documents} holds no document of two tokens or more: there is nothing to attribute to")
    return store


def _estimate(
    checkpoint: Checkpoint, layers: Sequence[Layer], encoder: Encoder, store: DocumentStore, options: BuildOptions
) -> Estimate:
    probe = sample_batches(
        encoder,
        store,
        tokens=min(PROBE_TOKENS, 2 * options.batch_tokens),
        batch_tokens=options.batch_tokens,
        long=options.long_documents,
    )
    projections = make_projections("random", layers, rank=options.rank, seed=options.seed)
    with capturing(checkpoint.model, layers, projections, batch_tokens=options.batch_tokens) as capture:
        rate = measure_rate(capture.run, probe)
    return estimate_build(
        options,
        layers,
        documents=len(store),
        windows=store.windows(),
        tokens=store.tokens(),
        tokens_per_second=rate,
    )


def _fit_projections(
    checkpoint: Checkpoint,
    layers: Sequence[Layer],
    encoder: Encoder,
    store: DocumentStore,
    options: BuildOptions,
    work: Workspace,
    progress: Progress,
) -> Projections:
    if work.projections.exists():
        return Projections.load(work.projections)
    moments = None
    if options.projection != "random":
        sample = sample_batches(
            encoder,
            store,
            tokens=options.moment_tokens,
            batch_tokens=options.batch_tokens,
            long=options.long_documents,
        )
        with progress.step("second moments", len(sample), "batch") as step:
            moments = measure_moments(checkpoint.model, layers, counted(sample, step))
    projections = make_projections(options.projection, layers, rank=options.rank, seed=options.seed, moments=moments)
    projections.save(work.projections)
    return projections


def _capture(
    checkpoint: Checkpoint,
    layers: Sequence[Layer],
    encoder: Encoder,
    store: DocumentStore,
    projections: Projections,
    options: BuildOptions,
    work: Workspace,
    progress: Progress,
) -> ShardStore:
    width = projections.layout.width
    gradients = ShardStore(work.gradients, width=width)
    shards = shard_ranges(len(store), width)
    finished = len(gradients.manifest.shards)
    if finished == len(shards):
        return gradients
    with ExitStack() as stack:
        step = stack.enter_context(progress.step("gradients", store.tokens(), "tok"))
        capture = stack.enter_context(
            capturing(checkpoint.model, layers, projections, batch_tokens=options.batch_tokens)
        )
        step.advance(store.tokens(stop=len(gradients)))
        for ordinals in shards[finished:]:
            rows = document_rows(capture, encoder, store, ordinals, width, long=options.long_documents, step=step)
            gradients.append(rows)
    return gradients


def _whiten(
    gradients: ShardStore,
    projections: Projections,
    options: BuildOptions,
    work: Workspace,
    progress: Progress,
    *,
    keep: bool,
) -> ShardStore:
    layout = projections.layout
    rows = ShardStore(work.rows, width=layout.width)
    shards = gradients.manifest.shards
    if not work.whitener.exists():
        passes = 2 if options.hessian == "ekfac" else 1
        with progress.step("Hessian", passes * len(shards), "shard") as step:
            Whitener.fit(
                options.hessian,
                lambda: (torch.from_numpy(block) for block in counted(gradients, step)),
                layout,
                damping=options.damping,
            ).save(work.whitener)
    whiten = Whitener.load(work.whitener, layout)
    with progress.step("whitened rows", len(shards), "shard") as step:
        for number, shard in enumerate(counted(shards, step)):
            if number >= len(rows.manifest.shards):
                rows.append(whiten(torch.from_numpy(gradients.read(shard))).numpy())
            if not keep:
                gradients.discard(shard)
    return rows


def _write_search(rows: ShardStore, work: Workspace, progress: Progress) -> np.ndarray:
    with progress.step("search index", len(rows.manifest.shards), "shard") as step:
        return write_flat_index(work.search, work.norms, counted(rows, step), rows.manifest.width)
