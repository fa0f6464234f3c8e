"""What a whole build takes (read, tokenise, second moments, capture, whiten, write, index) over capture alone.

    python benchmarks/build.py [--quick]

A GPT-2 of 6 layers and width 384 with random weights indexes a corpus of Python's own sources, cut into documents of
mixed lengths, with the default options, but second moments of an eighth of the tokens: by default a corpus so small is
looked at whole, for accuracy, which costs as much as its capture and half as much again. Capture alone runs over the
same windows, half before the build and half after it. 100,000 documents would take a CPU hours, so their build is put
together: steps that go document by document are scaled (a small build before has loaded the kernels), second moments
and the Hessian by the samples that so large a corpus is given, and the rest (loading, projections, the timed probe) is
taken as it is. A model so small is the hard case: a pass over the store costs the same whatever the model's width, and
capture grows with it. Prints one JSON object; the exit code is 0 only when nothing falls short.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from measuring import THREADS, conclude, described
from stopwatch import Spent, Stopwatch
from workloads import make_model, mixed_lengths, write_corpus, write_tokenizer

from headwater_indexer.build import build_index
from headwater_indexer.capture import capturing
from headwater_indexer.checkpoint import Checkpoint, load_checkpoint
from headwater_indexer.corpus import read_documents
from headwater_indexer.gradients import documents_for_hessian
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.moments import sample_tokens
from headwater_indexer.options import BuildOptions
from headwater_indexer.projection import make_projections
from headwater_indexer.windows import Encoder, Window

LONGEST = 256  # tokens of a window
AT_SCALE = 100_000  # documents
FEW = 4  # of a build before, with which a process imports and loads what it needs once
BUILD_TARGET = 0.85  # of the speed of capture alone
STORE_TARGET = 0.15  # of the time of capture alone
SAMPLED = "second moments"  # names of the build's steps
HESSIAN = "Hessian"
ROWS = "rows"  # in a corpus this small all gradients are on the disk before, and this step whitens and writes
NOTHING = Spent(0, 0)


def capture_alone(
    checkpoint: Checkpoint, layers: Sequence[Layer], windows: Sequence[Window], options: BuildOptions
) -> Spent:
    """Of windows that are tokens already; no row is kept."""
    projections = make_projections("random", layers, rank=options.rows(layers).rank, seed=0)
    with capturing(checkpoint.model, layers, projections, batch_tokens=options.batch_tokens) as capture:
        list(capture.batches(windows[:4]))
        begin = Spent.so_far()
        for _ in capture.batches(windows):
            pass
        return Spent.so_far() - begin


def measure(documents: int, folder: Path) -> dict[str, Any]:
    """One build between two halves of a capture of the same corpus, and what follows from it."""
    model, corpus = str(folder / "model"), str(folder / "corpus.jsonl")
    lengths = mixed_lengths(documents, LONGEST)
    make_model("gpt2", torch.device("cpu")).save_pretrained(model)
    write_tokenizer(Path(model))
    write_corpus(Path(corpus), lengths)
    options = BuildOptions(max_length=LONGEST, moment_tokens=sum(lengths) // 8)
    checkpoint = load_checkpoint(model, device="cpu")
    encoder, layers = Encoder(checkpoint.tokenizer, LONGEST), select_layers(checkpoint.model, options.layers)
    windows = [window for document in read_documents(corpus, options.fields) for window in encoder.document(document)]

    few = folder / "few.jsonl"
    few.write_text("".join(Path(corpus).read_text("utf-8").splitlines(keepends=True)[:FEW]), "utf-8")
    build_index(model, str(few), folder / "before", options, device="cpu")

    alone = capture_alone(checkpoint, layers, windows[::2], options)
    watch, begin = Stopwatch(), Spent.so_far()
    manifest = build_index(model, corpus, folder / "index", options, device="cpu", progress=watch)
    whole = Spent.so_far() - begin
    alone += capture_alone(checkpoint, layers, windows[1::2], options)

    scaled = at_scale(watch.spent, layers, options, documents=documents, tokens=manifest.tokens, width=manifest.width)
    between = whole - sum(watch.spent.values(), NOTHING)
    factor = AT_SCALE / documents
    return {
        "documents": documents,
        "tokens": manifest.tokens,
        "rank": options.rows(layers).rank,
        "columns": manifest.width,
        "moment_tokens": options.moment_tokens,
        "seconds": {name: round(spent.clock, 3) for name, spent in watch.spent.items()},
        "seconds_between_steps": round(between.clock, 3),
        "seconds_capture_alone": round(alone.clock, 3),
        "as_measured": shares(alone, watch.spent, between),
        f"at_{AT_SCALE}_documents": shares(alone * factor, scaled, between),
    }


def at_scale(
    spent: dict[str, Spent],
    layers: Sequence[Layer],
    options: BuildOptions,
    *,
    documents: int,
    tokens: int,
    width: int,
) -> dict[str, Spent]:
    """What each step takes for AT_SCALE documents like these, with the default samples."""
    factor = AT_SCALE / documents
    scaled = {name: took * factor for name, took in spent.items()}
    sampled = sample_tokens(layers, corpus=int(tokens * factor), at_most=BuildOptions().moment_tokens)
    scaled[SAMPLED] = spent[SAMPLED] * (sampled / min(tokens, options.moment_tokens))
    fitted = documents_for_hessian(options, AT_SCALE, width, everything=False)
    scaled[HESSIAN] = spent[HESSIAN] * (fitted / documents)
    return scaled


def shares(alone: Spent, spent: dict[str, Spent], between: Spent) -> dict[str, float]:
    """Speed of the build and time of the passes over the store, both over capture alone; by the clock and by the
    processor."""
    whole = sum(spent.values(), between)
    store = spent[HESSIAN] + spent[ROWS]
    return {
        "build_speed": round(alone.clock / whole.clock, 3),
        "build_speed_by_processor": round(alone.processor / whole.processor, 3),
        "store_passes": round(store.clock / alone.clock, 4),
        "store_passes_by_processor": round(store.processor / alone.processor, 4),
    }


def main(quick: Annotated[bool, typer.Option("--quick", help="Fewer documents.")] = False) -> None:
    """Compare a build with capture alone."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(100 if quick else 250, Path(folder))
    scaled, falls_short = found[f"at_{AT_SCALE}_documents"], []
    if (speed := scaled["build_speed"]) < BUILD_TARGET:
        falls_short.append(f"the build runs at {speed} of capture alone, not {BUILD_TARGET}")
    if (share := scaled["store_passes"]) > STORE_TARGET:
        falls_short.append(f"Hessian and whitening take {share} of the capture's time, not {STORE_TARGET}")
    report = {**described(torch.device("cpu")), "quick": quick, **found, "falls_short": falls_short}
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
