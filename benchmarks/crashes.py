"""An index whose builds, appends, removals and compactions are killed: is it ever less than whole?

    python benchmarks/crashes.py [--quick] [--kills N] [--every N] [--kind exact|codes] [--seed N]

For each change, and for rows as they are and in codes: SIGKILL at random moments, and then at every single step that
the change takes on the disk. After each kill the folder is verified and read: it must hold the version before or the
one after, with every document once, its own text and its own row, byte for byte; then the same command must end what
was begun, and a build or an append captures at most one shard twice for each kill. Prints one JSON object; the exit
code is 0 only when nothing falls short.
"""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from killing import Contents, Tally, contents, moment, run
from measuring import conclude, described
from transformers import GPT2Config, GPT2LMHeadModel
from workloads import mixed_lengths, write_corpus, write_tokenizer

from headwater_indexer import gradients
from headwater_indexer.append import append_documents
from headwater_indexer.build import build_index
from headwater_indexer.checkpoint import quiet_loading
from headwater_indexer.compact import compact
from headwater_indexer.engines import capturer
from headwater_indexer.options import BuildOptions
from headwater_indexer.remove import Unwanted, remove_documents

DOCUMENTS, ADDED, SHARD = 48, 24, 6
KINDS = {
    "exact": BuildOptions(rank=4, moment_tokens=1024, embeddings=True),
    "codes": BuildOptions(bytes=64, moment_tokens=1024),
}
Version = tuple[int, Contents]


@dataclass(frozen=True)
class Case:
    """A change of a copy of `before`, where there is one, and what is there before and after it."""

    name: str
    before: Path | None
    change: Callable[[Path], object]
    old: Version | None
    new: Version
    shards: int = 0  # that it captures


def cases(folder: Path, options: BuildOptions) -> Iterator[Case]:
    """The four changes, one after the other, each done once undisturbed."""
    model, corpus, more = (str(folder / name) for name in ("model", "corpus.jsonl", "more.jsonl"))
    ids = [f"more-{n}" for n in range(3)] + [f"corpus-{n}" for n in range(0, DOCUMENTS, 5)]
    unwanted = Unwanted(ids=ids, may_be_missing=True)  # they are, where the kill came after it was done
    changes: dict[str, tuple[Callable[[Path], object], int]] = {
        "build": (lambda out: build_index(model, corpus, out, options, device="cpu"), DOCUMENTS // SHARD),
        "append": (lambda out: append_documents(out, [more], device="cpu"), ADDED // SHARD),
        "remove": (lambda out: remove_documents(out, unwanted), 0),
        "compact": (compact, 0),
        "build anew": (
            lambda out: build_index(model, more, out, options, device="cpu", overwrite=True),
            ADDED // SHARD,
        ),
    }
    before: Path | None = None
    old: Version | None = None
    for name, (change, shards) in changes.items():
        after = folder / f"after-{name}"
        if before is not None:
            shutil.copytree(before, after)
        run(partial(change, after))
        number, found, _ = contents(after)
        yield Case(name, before, change, old, (number, found), shards)
        before, old = after, (number, found)


@contextmanager
def captures_noted(log: Path) -> Iterator[None]:
    """A line in the log for every shard that is captured, by this process and its children; shards are small."""
    step, whole, sizes = vars(capturer), gradients.document_rows, gradients.SHARD_DOCUMENTS

    def noted(*words: Any, **named: Any) -> Any:
        with log.open("a") as file:
            file.write("captured\n")
        return whole(*words, **named)

    step["document_rows"], gradients.SHARD_DOCUMENTS = noted, (SHARD, SHARD)
    try:
        yield
    finally:
        step["document_rows"], gradients.SHARD_DOCUMENTS = whole, sizes


def fresh(case: Case, out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    if case.before is not None:
        shutil.copytree(case.before, out)
    return out


def at_random(case: Case, out: Path, log: Path, kills: int, draw: random.Random) -> Tally:
    """Kills until there were so many; what is not done goes on, to be killed again or to end."""
    tally = Tally()
    fresh(case, out)
    began = time.perf_counter()
    run(lambda: case.change(out))
    seconds = time.perf_counter() - began
    fresh(case, out)
    log.write_text("")
    while tally.kills < kills:
        if run(lambda: case.change(out), kill_after=moment(draw, seconds)):
            tally.ended_before += 1
            _end(case, out, log, tally)
            continue
        tally.kills += 1
        tally.check(out, case.old, case.new)
        if draw.random() < 0.5 or tally.kills == kills:
            run(lambda: case.change(out))
            _end(case, out, log, tally)
    return tally


def _end(case: Case, out: Path, log: Path, tally: Tally) -> None:
    """The change is done: as if it had never been disturbed, and with as many shards captured."""
    tally.check_end(out, case.new)
    tally.shards_needed += case.shards
    tally.shards_captured += len(log.read_text().splitlines())
    log.write_text("")
    fresh(case, out)


def at_every_step(case: Case, out: Path, every: int) -> Tally:
    """One kill before each step on the disk, or each `every`th, and then the same command to the end."""
    tally, step = Tally(), 1
    fresh(case, out)
    while not run(lambda: case.change(out), kill_at=step):
        tally.kills += 1
        tally.check(out, case.old, case.new)
        run(lambda: case.change(out))
        tally.check_end(out, case.new)
        fresh(case, out)
        step += every
    return tally


def write_material(folder: Path) -> None:
    """A GPT-2 of width 16 with random weights, and documents of a few dozen tokens."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=4096, n_layer=1, n_embd=16, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder / "model")
    write_tokenizer(folder / "model")
    write_corpus(folder / "all.jsonl", mixed_lengths(DOCUMENTS + ADDED, 48))
    lines = [json.loads(line) for line in (folder / "all.jsonl").read_text("utf-8").splitlines()]
    for name, part in (("corpus", lines[:DOCUMENTS]), ("more", lines[DOCUMENTS:])):
        written = [json.dumps({"id": f"{name}-{n}", "text": line["text"]}) for n, line in enumerate(part)]
        (folder / f"{name}.jsonl").write_text("\n".join(written) + "\n", "utf-8")


def measure(kinds: Mapping[str, BuildOptions], kills: int, seed: int, every: int) -> dict[str, dict[str, Any]]:
    """By kind of rows and by change: what was found after the kills."""
    draw, found = random.Random(seed), {}  # noqa: S311  moments, no secrets
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_material(folder)
        for kind, options in kinds.items():
            (folder / kind).mkdir()
            for material in ("model", "corpus.jsonl", "more.jsonl"):
                (folder / kind / material).symlink_to(folder / material)
            with captures_noted(folder / "captures"):
                for case in cases(folder / kind, options):
                    out, log = folder / "out", folder / "captures"
                    share = -(-kills // len(kinds))
                    found[f"{case.name}, {kind}"] = {
                        "at random": at_random(case, out, log, share, draw),
                        "at every step": at_every_step(case, out, every),
                    }
    return found


def main(
    quick: Annotated[bool, typer.Option("--quick", help="1 kill of each change, and every eightieth step.")] = False,
    kills: Annotated[int | None, typer.Option(help="At random moments, of each change. [50]")] = None,
    every: Annotated[
        int | None, typer.Option(help="The steps on the disk that are killed at: each so many. [1]")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="exact or codes alone. [both]")] = None,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Kill changes of an index, and say what was lost."""
    torch.set_num_threads(1)
    quiet_loading()
    kinds = {name: options for name, options in KINDS.items() if kind in (None, name)}
    found = measure(kinds, kills or (1 if quick else 50), seed, every or (80 if quick else 1))
    falls_short = [
        f"{name}, {when}: {fault}"
        for name, each in found.items()
        for when, tally in each.items()
        for fault in tally.faults
    ]
    report = {
        **described(torch.device("cpu")),
        "seed": seed,
        "documents": {"built": DOCUMENTS, "added": ADDED, "in a shard": SHARD},
        "changes": {name: {when: asdict(tally) for when, tally in each.items()} for name, each in found.items()},
        "falls_short": falls_short,
    }
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
