"""Rescoring with unprojected gradients: what it foretells, and what it costs.

    python benchmarks/rescoring.py GROUNDTRUTH [--quick]

Accuracy: the LDS of `headwater-index scores --rescore all`, with and without `--refine 2`, on a ground truth (see
benchmarks/accuracy.py). Cost: one pass that scores candidates for 1 and for 16 queries, against forward and an
activation-only backward of the same documents, and a product with the Gauss-Newton matrix for 8 queries against their
forward pass, interleaved, on models of real configurations with random weights. `--quick` leaves the refined scores
and the comparisons out. Prints one JSON object; the exit code is 0 only when nothing falls short.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accuracy import grade
from measuring import THREADS, conclude, described, interleaved, median_ratio
from passes import Pass, prepare
from torch import Tensor
from transformers import PreTrainedModel
from workloads import Family, make_model, mixed_lengths, windows_of

from headwater_indexer.ekfac.gauss_newton import GaussNewton
from headwater_indexer.ekfac.influence import window_influences
from headwater_indexer.evaluation.truth import GroundTruth
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.windows import Window

# Options of `headwater-index scores`, and the least LDS that each is to reach; None is for the comparison alone.
SETTINGS: list[tuple[str, list[str], float | None]] = [
    ("EK-FAC, all documents", ["--rescore", "all"], 0.745),
    ("2 steps past EK-FAC, all documents", ["--rescore", "all", "--refine", "2"], 0.77),
    ("rows alone", [], None),
    ("EK-FAC, 50 candidates", ["--rescore", "50"], None),
]
QUICK = SETTINGS[:1]
FAMILIES: tuple[Family, ...] = ("gpt2", "llama")
ROWS = 8  # in a batch
TOKENS = 256  # of the longest candidate
AT_LEAST = {"rescoring, 1 query": 0.7, "rescoring, 16 queries": 0.5}  # of the eager limit's speed
PRODUCT_QUERIES = 8
PRODUCT_LIMIT = 4.0  # forward passes that a product may take for each query


def cost(family: Family, candidate_batches: int, rounds: int) -> dict[str, Any]:
    """Speed relative to the eager limit, and forward passes for each query of a Gauss-Newton product."""
    model = make_model(family, torch.device("cpu"))
    layers = select_layers(model, "mlp")
    candidates = windows_of(mixed_lengths(candidate_batches * ROWS, TOKENS), model.config.vocab_size)
    passes = {
        "forward": prepare("forward", model, candidates, ROWS),
        "limit": prepare("limit, sorted", model, candidates, ROWS),
        "rescoring, 1 query": _rescoring(model, layers, candidates, 1),
        "rescoring, 16 queries": _rescoring(model, layers, candidates, 16),
        "product": _product(model, layers, candidates),
    }
    seconds = interleaved(passes, rounds, model.device)
    product = 1 / (median_ratio(seconds, "product", "forward") * PRODUCT_QUERIES)
    return {name: round(median_ratio(seconds, name, "limit"), 2) for name in AT_LEAST} | {
        "forward passes for a query of a product": round(product, 2)
    }


def _rescoring(model: PreTrainedModel, layers: Sequence[Layer], windows: Sequence[Window], queries: int) -> Pass:
    directions = _directions(layers, queries)

    def run() -> None:
        window_influences(model, layers, directions, windows, batch_tokens=ROWS * TOKENS)

    return run


def _product(model: PreTrainedModel, layers: Sequence[Layer], windows: Sequence[Window]) -> Pass:
    matrix = GaussNewton(model, layers, windows, batch_tokens=ROWS * TOKENS)
    directions = _directions(layers, PRODUCT_QUERIES)

    def run() -> None:
        matrix(directions)

    return run


def _directions(layers: Sequence[Layer], queries: int) -> dict[str, Tensor]:
    return {layer.name: torch.randn(queries, layer.out_dim, layer.in_dim) for layer in layers}


def main(
    truth: Annotated[Path, typer.Argument(help="Folder of a ground truth.")],
    quick: Annotated[bool, typer.Option("--quick", help="Without refined scores and comparisons.")] = False,
) -> None:
    """Grade rescored and refined scores, and time them."""
    torch.set_num_threads(THREADS)
    graded, falls_short = GroundTruth.load(truth), []
    results = {}
    for name, options, target in QUICK if quick else SETTINGS:
        results[name] = grade(graded, options)
        if target is not None and results[name]["lds"] < target:
            falls_short.append(f"{name}: LDS {results[name]['lds']} is below {target}")
    costs = {family: cost(family, *((1, 1) if quick else (4, 3))) for family in FAMILIES[: 1 if quick else None]}
    for family, figures in costs.items():
        for name, least in AT_LEAST.items():
            if figures[name] < least:
                falls_short.append(f"{family}, {name}: {figures[name]} of the limit's speed is below {least}")
        if (passes := figures["forward passes for a query of a product"]) > PRODUCT_LIMIT:
            falls_short.append(f"{family}: a product takes {passes} forward passes for each query")
    report = {
        "ground_truth": truth.name,
        **described(torch.device("cpu")),
        "accuracy": results,
        "speed_to_limit": costs,
        "falls_short": falls_short,
    }
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
