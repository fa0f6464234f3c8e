"""Accuracy per byte: the LDS of rows of every size, by a budget of bytes and by bits of a column at chosen ranks.

    python benchmarks/sweep.py GROUNDTRUTH [--seeds 3] [--plot FILE.svg] [--quick]

Each point is graded under several seeds of the projections and of the columns' order, since one draw of either moves
an LDS by about 0.004. Prints one JSON object; the exit code is 0 only when the mean of a budget's seeds reaches its
target. The plot wants matplotlib: pip install 'headwater[benchmarks]'.
"""

import os
import platform
import statistics
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from accuracy import grade
from measuring import conclude

from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.evaluation.truth import GroundTruth
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.options import BuildOptions

BUDGETS: dict[int, float | None] = {256: None, 512: 0.60, 1024: 0.65, 2048: 0.70, 4096: None, 6400: 0.74, 12800: None}
RANKS = (32, 64)
BITS = (16, 8, 4, 2, 1)
QUICK_BUDGET = 512


def point(truth: GroundTruth, layers: list[Layer], given: dict[str, int], seeds: int) -> dict[str, Any]:
    """The bytes of a row that is asked for so, and its LDS under each seed."""
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    options: Any = given
    found = [grade(truth, [*words, "--seed", str(seed)])["lds"] for seed in range(seeds)]
    return {
        **given,
        "bytes_stored": BuildOptions(**options).rows(layers).bytes,
        "lds": round(statistics.mean(found), 4),
        "lds_by_seed": found,
    }


def draw(points: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """LDS against bytes, a line for each way to ask."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, line in points.items():
        ordered = sorted(line, key=lambda one: one["bytes_stored"])
        axes.plot([one["bytes_stored"] for one in ordered], [one["lds"] for one in ordered], marker="o", label=name)
    axes.set(xscale="log", xlabel="bytes stored per document", ylabel="LDS")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main(
    truth: Annotated[Path, typer.Argument(help="Folder of a ground truth.")],
    seeds: Annotated[int, typer.Option(help="Draws that each point is the mean of.", min=1)] = 3,
    plot: Annotated[Path | None, typer.Option(help="The picture to draw (.svg, .png).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One budget and one seed.")] = False,
) -> None:
    """Grade rows of many sizes against a ground truth."""
    graded = GroundTruth.load(truth)
    layers = select_layers(load_checkpoint(str(graded.model), device="cpu", dtype="float32").model, "mlp")
    budgets = {QUICK_BUDGET: BUDGETS[QUICK_BUDGET]} if quick else BUDGETS
    seeds = 1 if quick else seeds
    points = {"--bytes": [point(graded, layers, {"bytes": budget}, seeds) for budget in budgets]}
    for rank in () if quick else RANKS:
        points[f"--rank {rank} --bits"] = [point(graded, layers, {"rank": rank, "bits": bits}, 1) for bits in BITS]
    if plot is not None:
        draw(points, plot)
    short = [
        f"--bytes {one['bytes']}: LDS {one['lds']} is below {budgets[one['bytes']]}"
        for one in points["--bytes"]
        if one["lds"] < (budgets[one["bytes"]] or 0)
    ]
    report = {
        "ground_truth": truth.name,
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU used",
        "torch": version("torch"),
        "points": points,
        "falls_short": short,
    }
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
