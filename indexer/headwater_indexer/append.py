"""Adds documents to an index: a segment beside the others, seen through the projections and the Hessian of the build.

Nothing that is there changes. A killed append goes on where it was, as a build does, and is seen when it is done.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headwater_indexer.build_steps import BuildSteps
from headwater_indexer.catalogue import open_catalogue
from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.codes.budget import RowPlan
from headwater_indexer.codes.coder import HEADER_BYTES
from headwater_indexer.corpus import Fields
from headwater_indexer.documents import DocumentStore
from headwater_indexer.durable import make_folder, replacing, storage_errors
from headwater_indexer.engines.capturer import Capturer
from headwater_indexer.engines.local import LocalEngine
from headwater_indexer.errors import ConfigurationError, CorpusError
from headwater_indexer.hessian import Whitener
from headwater_indexer.index import load_checkpoint_of, named_layers
from headwater_indexer.manifest import Manifest, verify_file
from headwater_indexer.options import BuildOptions, stamp
from headwater_indexer.progress import Progress, Silent
from headwater_indexer.projection import Projections
from headwater_indexer.search import import_faiss
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.versions import KEPT, new_segment_folder, succeeding, switch
from headwater_indexer.windows import Encoder
from headwater_indexer.workspace import JOURNAL, SEGMENTS, Workspace, changing

_IDS_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class AppendOptions:
    """What is not settled by the index."""

    batch_tokens: int = 4096
    gradient_checkpointing: bool = False
    split: str = "train"
    fields: Fields = field(default_factory=Fields)


def append_documents(
    folder: Path,
    corpora: Sequence[str],
    options: AppendOptions | None = None,
    *,
    model: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    keep: int = KEPT,
    progress: Progress | None = None,
) -> Manifest:
    """Adds the documents of `corpora` (files, folders or names of datasets) as a new version; returns its manifest.

    The same call after an interruption resumes, and after success returns at once; `overwrite` drops what another
    append left unfinished. Raises CorpusError for an id that the index has, and HeadwaterError as a build does.
    """
    options, progress = options or AppendOptions(), progress or Silent()
    import_faiss()
    with changing(folder) as work, storage_errors(folder):
        manifest = Manifest.read(folder)
        for file in manifest.shared:
            verify_file(folder, file)
        inputs = _fingerprint(manifest, corpora, options)
        if any(segment.inputs_sha256 == inputs for segment in manifest.segments):
            progress.say(f"{folder} has these documents already")
            return manifest
        part = _begin(work, manifest, inputs, overwrite=overwrite)
        checkpoint = load_checkpoint_of(
            folder, manifest, model=model, device=device, gradient_checkpointing=options.gradient_checkpointing
        )
        steps = _steps(checkpoint, manifest, options, part, progress)
        store = steps.read(*corpora)
        _check_new(store, work, manifest)
        projections = Projections.load(work.projections)
        whiten = Whitener.load(work.whitener, projections.layout)
        rows = steps.rows(store, projections, whiten, keep_gradients=False)
        without_gradient = steps.index(rows)
        steps.baselines(store)
        shutil.rmtree(part.gradients, ignore_errors=True)
        segment = steps.segment(store, inputs, without_gradient, keep_gradients=False)
        made = switch(folder, succeeding(manifest, "append", segments=(*manifest.segments, segment)), keep=keep)
        (part.folder / JOURNAL).unlink()
        return made


def _steps(
    checkpoint: Checkpoint, manifest: Manifest, options: AppendOptions, part: Workspace, progress: Progress
) -> BuildSteps:
    """The build's own steps, as the manifest says that they were taken."""
    rows, windows = manifest.rows, manifest.windows
    same = BuildOptions(
        rank=manifest.projection.rank,
        projection=manifest.projection.kind,
        hessian=manifest.hessian.kind,
        damping=manifest.hessian.damping,
        seed=manifest.projection.seed,
        max_length=windows.max_length,
        long_documents=windows.long_documents,
        embeddings=Workspace(part.root).segment(manifest.segments[0].folder).embeddings.exists(),
        dtype=manifest.model.dtype,
        **{name: getattr(options, name) for name in ("batch_tokens", "gradient_checkpointing", "split", "fields")},
    )
    codes = None if rows.bits else rows.bytes - HEADER_BYTES
    plan = RowPlan(
        rank=manifest.projection.rank, width=manifest.width, columns=rows.columns, code_bytes=codes, bits=rows.bits
    )
    encoder = Encoder(checkpoint.tokenizer, windows.max_length)
    layers = named_layers(checkpoint, manifest)
    here = LocalEngine(Capturer.of(checkpoint, encoder, layers, same))
    return BuildSteps(checkpoint, encoder, layers, same, plan, part, here, progress)


def _fingerprint(manifest: Manifest, corpora: Sequence[str], options: AppendOptions) -> str:
    """SHA-256 of all that goes into the segment; the files of the corpora by name, size and time of change."""
    described = {
        "shared": [file.sha256 for file in manifest.shared],
        "documents": [stamp(corpus) for corpus in corpora],
        "fields": asdict(options.fields),
        "split": options.split,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _begin(work: Workspace, manifest: Manifest, inputs: str, *, overwrite: bool) -> Workspace:
    """The folder of the segment: that of the same append, which was interrupted, or a new one."""
    named = {segment.folder for segment in manifest.segments}
    for journal in sorted((work.root / SEGMENTS).glob(f"*/{JOURNAL}")):
        found = work.segment(journal.parent.relative_to(work.root).as_posix())
        if journal.parent.relative_to(work.root).as_posix() in named:
            journal.unlink()  # it was killed when all was done but this
        elif _inputs(journal) == inputs:
            return found
        elif not overwrite and found.rows.exists() and len(ShardStore.open(found.rows)):
            raise ConfigurationError(
                f"{found.folder} holds an unfinished append of other documents: run it with the former ones to resume "
                "it, or --overwrite it"
            )
        else:
            shutil.rmtree(journal.parent)
    made = make_folder(new_segment_folder(work.root, manifest))
    with replacing(made / JOURNAL) as aside:
        aside.write_text(json.dumps({"inputs_sha256": inputs}))
    return work.segment(made.relative_to(work.root).as_posix())


def _inputs(journal: Path) -> str | None:
    try:
        return str(json.loads(journal.read_text())["inputs_sha256"])
    except (ValueError, KeyError, TypeError):
        return None


def _check_new(store: DocumentStore, work: Workspace, manifest: Manifest) -> None:
    """Raises CorpusError for a document whose id one has that is in the index."""
    with open_catalogue(work.root, manifest) as there:
        for first in range(0, len(store), _IDS_AT_ONCE):
            ids = list(store.ids(first, first + _IDS_AT_ONCE))
            for document_id, ordinal in zip(ids, there.ordinals(ids), strict=True):
                if ordinal is not None:
                    raise CorpusError(
                        f"the id {document_id!r} is in {work.root} already: leave the document out, give it another "
                        "id, or remove the other first with `headwater-index remove`"
                    )
