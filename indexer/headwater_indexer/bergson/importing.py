"""A bergson store into an index: its gradients in place of captured ones, and the rest of a build as ever."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from headwater_indexer.bergson.store import BergsonStore
from headwater_indexer.build_steps import BuildSteps
from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.documents import DocumentStore
from headwater_indexer.durable import storage_errors
from headwater_indexer.engines.capturer import Capturer
from headwater_indexer.engines.engine import Recipe
from headwater_indexer.engines.local import LocalEngine
from headwater_indexer.errors import DataError
from headwater_indexer.gradients import shard_ranges
from headwater_indexer.layers import watchable_layers
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions, fingerprint
from headwater_indexer.progress import Progress, Silent
from headwater_indexer.projection import Projections
from headwater_indexer.search import import_faiss
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.windows import Encoder
from headwater_indexer.workspace import working_in

TRIED = 8  # documents whose gradients are captured again, to see that the store's are theirs
LIKENESS = 0.98  # cosine of both; stores in 16 bits, and kernels of other devices, round


def import_bergson(
    store: Path,
    model: str,
    documents: str,
    out: Path,
    options: BuildOptions | None = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Builds the index in `out` from the gradients in `store`, of `documents` in the order that it was built from.

    Each document is one row; what is longer than the model's window was cut at its end. The gradients of some
    documents are captured again and compared. Raises DataError where they, or their number, are not the store's, and
    HeadwaterError as a build does.
    """
    progress = progress or Silent()
    import_faiss()
    stored = BergsonStore.open(store)
    options = replace(options or BuildOptions(), rank=stored.rank, projection="random", long_documents="truncate")
    with working_in(out) as place, storage_errors(out):
        checkpoint = load_checkpoint(model, revision=revision, device=device, dtype=options.dtype)
        layers = stored.among(watchable_layers(checkpoint.model))
        made_of = fingerprint(options, checkpoint, documents) + (store / "info.json").read_text()
        inputs = hashlib.sha256(f"{made_of} {(store / 'gradients.bin').stat().st_mtime_ns}".encode()).hexdigest()
        work = place.begin(inputs, overwrite=overwrite)
        if isinstance(work, Manifest):
            progress.say(f"{out} is already built from these inputs")
            return work
        encoder = Encoder(checkpoint.tokenizer, options.window_length(checkpoint))
        engine = LocalEngine(Capturer.of(checkpoint, encoder, layers, options))
        build = BuildSteps(checkpoint, encoder, layers, options, options.rows(layers), work, engine, progress)
        there = build.read(documents)
        if len(there) != len(stored):
            raise DataError(f"{store} holds {len(stored)} rows, and {documents} {len(there)} documents")
        build.plan_search(there, None)
        if not work.projections.exists():
            stored.projections(layers).save(work.projections)
        projections = Projections.load(work.projections)
        _compare(build, there, projections, stored)
        gradients = ShardStore(work.gradients, width=projections.layout.width)
        for ordinals in shard_ranges(len(there), projections.layout.width)[len(gradients.manifest.shards) :]:
            gradients.append(stored.rows(ordinals))
        whiten = build.fit_hessian(there, projections, everything=True)
        made = build.finish(there, projections, whiten, inputs_sha256=inputs, keep_gradients=False, hessian_of_all=True)
        place.succeed(work)
        return made


def _compare(build: BuildSteps, there: DocumentStore, projections: Projections, stored: BergsonStore) -> None:
    """Raises DataError where a document's gradient is not, but for its length, what the store has for it."""
    for ordinal in np.unique(np.linspace(0, len(there) - 1, TRIED).astype(int)).tolist():
        one = range(ordinal, ordinal + 1)
        with build.capturing_rows(there, Recipe(projections=projections), "comparison", [one]) as blocks:
            ours, theirs = next(blocks).rows[0].astype(np.float64), stored.rows(one)[0].astype(np.float64)
        lengths = np.linalg.norm(ours) * np.linalg.norm(theirs)
        if lengths > 0 and ours @ theirs / lengths < LIKENESS:
            (document,) = there.by_ordinal([ordinal])
            raise DataError(
                f"row {ordinal} of {stored.folder} is not the gradient of document {document.id!r} of this model "
                f"(cosine {ours @ theirs / lengths:.3f}): give the model and the documents, in the order that the "
                "store was built from, in full precision"
            )
        if lengths > 0 and not 0.5 < np.linalg.norm(theirs) / np.linalg.norm(ours) < 2:
            raise DataError(
                f"row {ordinal} of {stored.folder} is of another loss than the sum over a document's tokens: build it "
                "with loss_reduction sum"
            )
