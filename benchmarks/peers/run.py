"""Headwater beside other libraries for training-data attribution: accuracy, bytes, seconds and memory in one run.

    python benchmarks/peers/run.py GROUNDTRUTH [--quick] [--only RIVAL] [--environments FOLDER] [--results FOLDER]

Every rival runs in a virtual environment of its own, made at the versions of requirements/, by its documented interface
(rivals/), on the same model and the same tokens. What was measured is kept under --results and measured again only when
the adapter, its settings, the data or (for Headwater) the code changed. Prints one JSON object; the exit code is 0 only
when no rival's point lies above Headwater's curve.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for measuring and workloads

from curves import falls_short
from environments import NoEnvironmentError, python_for
from kept import Kept
from material import write_capture, write_truth
from measuring import THREADS, conclude, described
from points import POINTS, RANKS, Point, capture_points
from transformers import AutoConfig
from workloads import Family

from headwater_indexer.evaluation.intervals import bootstrap
from headwater_indexer.evaluation.lds import lds
from headwater_indexer.evaluation.truth import GroundTruth

ADAPTERS = Path(__file__).parent / "rivals"
CACHE = Path.home() / ".cache" / "headwater-peers"
FAMILIES: tuple[Family, ...] = ("gpt2", "llama")
WINDOWS, ROUNDS = 4, 3  # of the capture
LIMIT = 1800  # seconds for one point


@dataclass(frozen=True)
class Bench:
    """Where things are, and what was skipped so far."""

    environments: Path
    kept: Kept
    install: bool
    skipped: dict[str, str]

    def measure(self, point: Point, data: dict[str, Any]) -> tuple[dict[str, Any], Path] | None:
        """The figures of one point, and the folder with its scores; None and a reason where it cannot be had."""
        if point.rival in self.skipped:
            return None
        adapter = ADAPTERS / f"{point.rival}_adapter.py"
        task = {**data, "settings": point.settings, "threads": THREADS, "rounds": ROUNDS}
        folder = self.kept.folder(point.rival, adapter, task)
        if not (folder / "figures.json").exists():
            try:
                python = python_for(point.rival, self.environments, install=self.install)
            except NoEnvironmentError as error:
                self.skipped[point.rival] = str(error)
                return None
            if reason := _run(python, adapter, task, folder):
                self.skipped[f"{point.rival} {point.name}"] = reason
                return None
        return json.loads((folder / "figures.json").read_text()), folder


def _run(python: Path, adapter: Path, task: dict[str, Any], folder: Path) -> str | None:
    """Runs an adapter in `folder`; returns why it failed."""
    typer.echo(f"{adapter.stem}: {task['settings']}", err=True)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "task.json"
    file.write_text(json.dumps(task | {"out": str(folder)}))
    with (folder / "log.txt").open("w") as log:
        try:
            done = subprocess.run(  # noqa: S603 - our own words
                [python, adapter, file], cwd=folder, stdout=log, stderr=subprocess.STDOUT, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            return f"took more than {LIMIT} seconds"
    if done.returncode:
        return (folder / "log.txt").read_text().strip().splitlines()[-1][:300]
    return None


def score_points(bench: Bench, truth: GroundTruth, work: Path, chosen: list[Point]) -> list[dict[str, Any]]:
    tokens = work / f"{truth.folder.name}.npz"
    write_truth(truth, AutoConfig.from_pretrained(truth.model).max_position_embeddings, tokens)
    data = {
        "model": str(truth.model),
        "tokens": str(tokens),
        "documents_file": str(truth.documents),
        "queries_file": str(truth.queries),
        "capture": False,
    }
    found = []
    for point in chosen:
        if measured := bench.measure(point, data):
            figures, folder = measured
            graded = bootstrap(lds(truth.masks, truth.losses, np.load(folder / "scores.npy")))
            found.append(
                {
                    "rival": point.rival,
                    "name": point.name,
                    "settings": point.settings,
                    "lds": round(graded.mean, 4),
                    "interval_95": [round(graded.low, 4), round(graded.high, 4)],
                    **_rounded(figures),
                }
            )
    return found


def capture_speeds(bench: Bench, work: Path, only: str | None) -> list[dict[str, Any]]:
    """Tokens a second of each rival's capture, and how that compares with a plain forward and backward."""
    found = []
    for family in FAMILIES:
        model, tokens = work / family, work / f"{family}.npz"
        if not tokens.exists():
            write_capture(family, model, tokens, WINDOWS)
        data = {"model": str(model), "tokens": str(tokens), "capture": True}
        for point in (point for rank in RANKS for point in capture_points(rank) if only in (None, point.rival)):
            if measured := bench.measure(point, data):
                found.append({"model": family, "rival": point.rival, "name": point.name, **_rounded(measured[0])})
    return found


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Four digits of what is timed, all of what is counted."""
    return {name: value if "bytes" in name else float(f"{value:.4g}") for name, value in figures.items()}


def main(
    truth: Annotated[Path, typer.Argument(help="Folder of a ground truth.")],
    quick: Annotated[bool, typer.Option("--quick", help="One setting of each rival that is installed.")] = False,
    only: Annotated[str | None, typer.Option(help="One rival alone; nothing is compared.")] = None,
    capture: Annotated[bool, typer.Option(help="Measure the capture's speed, which takes minutes, as well.")] = True,
    environments: Annotated[Path, typer.Option(help="Folder of the virtual environments.")] = CACHE / "environments",
    results: Annotated[Path, typer.Option(help="Folder of what was measured.")] = CACHE / "results",
) -> None:
    """Measure every rival, and compare their curves."""
    truth, results = truth.resolve(), results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    bench = Bench(environments.resolve(), Kept(results), not quick, {})
    chosen = [point for point in POINTS if only in (None, point.rival) and (point.quick or not quick)]
    points = score_points(bench, GroundTruth.load(truth), results, chosen)
    speeds = capture_speeds(bench, results, only) if capture and not quick else []
    short = [] if only else falls_short(points)
    import torch

    report = {
        "ground_truth": truth.name,
        **described(torch.device("cpu")),
        "points": points,
        "capture": speeds,
        "skipped": bench.skipped,
        "falls_short": short,
    }
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
