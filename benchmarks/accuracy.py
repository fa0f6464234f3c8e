"""Accuracy: the linear datamodeling score (LDS) of `headwater-index scores` against models retrained on random halves.

    python benchmarks/accuracy.py GROUNDTRUTH [--quick]

GROUNDTRUTH is a folder with model/, train.jsonl, queries.jsonl and lds.npz: `masks` [subsets, documents], which
documents each retrained model saw, and `losses` [subsets, queries], each query's loss afterwards. The LDS is the mean
over queries of the Spearman correlation, over the subsets, between the summed scores of a subset and minus the loss
(Park et al., 2023, arXiv 2303.14186). Baselines stand beside. Prints one JSON object; the exit code is 0 only when
nothing falls short.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from measuring import conclude

from headwater_indexer.evaluation.intervals import bootstrap
from headwater_indexer.evaluation.lds import lds
from headwater_indexer.evaluation.truth import GroundTruth

# Options of `headwater-index scores`, and the least LDS that each is to reach; None is for the comparison alone.
SETTINGS: list[tuple[str, list[str], float | None]] = [
    ("512 bytes", ["--bytes", "512"], 0.60),
    ("1024 bytes", ["--bytes", "1024"], 0.65),
    ("2048 bytes, the default", [], 0.70),
    ("6400 bytes", ["--bytes", "6400"], 0.74),
    ("rank 48", ["--rank", "48"], 0.70),
    (
        "LoGra as published, rank 32",
        ["--layers", "all", "--rank", "32", "--projection", "random", "--hessian", "raw", "--damping", "0.1"],
        0.57,
    ),
    ("rank 48, 16 bits", ["--rank", "48", "--bits", "16"], None),
    ("rank 48, 4 bits", ["--rank", "48", "--bits", "4"], None),
    ("rank 48, 1 bit", ["--rank", "48", "--bits", "1"], None),
    ("all columns in 32 bits", ["--rank", "256", "--bits", "32"], None),
    ("rank 48, another seed", ["--rank", "48", "--seed", "1"], None),
    ("rank 48, PCA", ["--rank", "48", "--projection", "pca"], None),
    ("rank 48, random", ["--rank", "48", "--projection", "random"], None),
    ("rank 48, attention layers", ["--rank", "48", "--layers", "attention"], None),
    ("BM25", ["--method", "bm25"], None),
    ("hidden states", ["--method", "hidden-states"], None),
    ("rank 48 and BM25", ["--rank", "48", "--method", "hybrid"], None),
    ("rank 48, all of long documents", ["--rank", "48", "--long-documents", "windows"], None),
]


def grade(truth: GroundTruth, options: list[str]) -> dict[str, Any]:
    """Runs the command and grades what it wrote; the interval is a bootstrap over queries."""
    with tempfile.TemporaryDirectory() as aside:
        out = Path(aside) / "scores.npy"
        command: list[str | Path] = [
            Path(sys.executable).parent / "headwater-index",
            "scores",
            "--model",
            truth.model,
        ]
        command += ["--documents", truth.documents, "--queries", truth.queries, "--out", out]
        started = time.perf_counter()
        subprocess.run([*command, *options], check=True, stderr=subprocess.DEVNULL)  # noqa: S603 - our own words
        seconds = time.perf_counter() - started
        found = bootstrap(lds(truth.masks, truth.losses, np.load(out)))
    return {
        "options": " ".join(options),
        "lds": round(found.mean, 4),
        "interval_95": [round(found.low, 4), round(found.high, 4)],
        "seconds": round(seconds, 1),
    }


def main(
    truth: Annotated[Path, typer.Argument(help="Folder of a ground truth.")],
    quick: Annotated[bool, typer.Option("--quick", help="Only the settings that have a target.")] = False,
) -> None:
    """Grade the scores of several settings against a ground truth."""
    graded = GroundTruth.load(truth)
    results, falls_short = {}, []
    for name, options, target in SETTINGS:
        if quick and target is None:
            continue
        results[name] = grade(graded, options)
        if target is not None and results[name]["lds"] < target:
            falls_short.append(f"{name}: LDS {results[name]['lds']} is below {target}")
    report = {
        "ground_truth": truth.name,
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU used",
        "torch": version("torch"),
        "results": results,
        "falls_short": falls_short,
    }
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
