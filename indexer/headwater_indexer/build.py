"""The build: documents in, a folder out that a server can answer from.

Each step is kept, so that a killed build goes on where it was: at most one shard is captured twice.
"""

from collections.abc import Sequence
from pathlib import Path

from headwater_indexer.build_steps import BuildSteps
from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.durable import storage_errors
from headwater_indexer.engines.capturer import Capturer
from headwater_indexer.engines.choosing import opened
from headwater_indexer.engines.cluster import import_ray
from headwater_indexer.engines.options import EngineOptions
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions, fingerprint
from headwater_indexer.progress import Progress, Silent
from headwater_indexer.search import import_faiss
from headwater_indexer.windows import Encoder
from headwater_indexer.workspace import working_in


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
    engine: EngineOptions | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Builds the index of `documents` (a file, a folder, or a dataset's name) for `model` in the folder `out`.

    `memory` is what the process, and one that serves the index, may hold in bytes; the build ends before it takes more.
    `engine` tells where documents are captured; what is built is the same.
    The same call after an interruption resumes, and after success returns at once. Raises HeadwaterError with what
    was wrong, where, and what to do; what was finished stays in the folder.
    """
    options = options or BuildOptions()
    progress = progress or Silent()
    cluster = engine or EngineOptions()
    if cluster.engine == "ray":
        import_ray()
    import_faiss()  # a missing package is told before the work, not after it
    with working_in(out) as place, storage_errors(out):
        checkpoint = load_checkpoint(
            model,
            revision=revision,
            device=device,
            dtype=options.dtype,
            gradient_checkpointing=options.gradient_checkpointing,
        )
        encoder = Encoder(checkpoint.tokenizer, options.window_length(checkpoint))
        layers = select_layers(checkpoint.model, options.layers)
        if options.rank is not None:
            _say_clipped(layers, options.rank, progress)
        inputs = fingerprint(options, checkpoint, documents)
        work = place.begin(inputs, overwrite=overwrite)
        if isinstance(work, Manifest):
            progress.say(f"{out} is already built from these inputs")
            return work
        capturer = Capturer.of(checkpoint, encoder, layers, options)
        with opened(capturer, cluster, device=device, gradient_checkpointing=options.gradient_checkpointing) as there:
            build = BuildSteps(checkpoint, encoder, layers, options, options.rows(layers), work, there, progress)
            store = build.read(documents)
            build.estimate(store, everything=keep_gradients, memory=memory)
            build.plan_search(store, memory)
            projections = build.project(store)
            whiten = build.fit_hessian(store, projections, everything=keep_gradients)
            made = build.finish(
                store,
                projections,
                whiten,
                inputs_sha256=inputs,
                keep_gradients=keep_gradients,
                hessian_of_all=keep_gradients,
            )
        store.close()
        place.succeed(work)
        return made


def _say_clipped(layers: Sequence[Layer], rank: int, progress: Progress) -> None:
    clipped = [layer for layer in layers if min(layer.in_dim, layer.out_dim) < rank]
    if clipped:
        narrowest = min(min(layer.in_dim, layer.out_dim) for layer in clipped)
        progress.say(
            f"rank {rank} is above the width of {len(clipped)} of {len(layers)} layers (the narrowest has {narrowest})"
            ": clipped to the width there"
        )
