"""Speed and memory of the capture, against forward and an activation-only backward of the same batch: the eager limit.

    python benchmarks/capture.py [--quick] [--device cuda]

All passes run in turn, round by round, so that a busy machine slows all of them alike; a ratio is the median over
rounds of the two times in one round, and above 1 is faster than the limit. Models have real configurations and random
weights: GPT-2 and Llama of 6 layers and width 384, windows of 256 tokens, batches of 8; with `--device cuda` the shape
of Llama 3.2 1B in bfloat16, 512 tokens, and the largest batch that fits. Prints one JSON object; the exit code is 0
only when nothing falls short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

import torch
import typer
from measuring import THREADS, conclude, described, interleaved, median_ratio
from memory import Trial, measure
from passes import largest_batch, prepare
from transformers import PreTrainedModel
from workloads import Family, make_model, mixed_lengths, windows_of

from headwater_indexer.windows import Window

FULL = ("forward", "limit", "limit, lean", "training", "capture 16", "capture 64")
MIXED = ("limit", "limit, sorted", "capture 16")
QUERY = ("limit", "capture 16", "capture 64")
MEMORY = ("limit", "capture 16", "capture 64")
MIXED_TARGET = 1.15  # of the eager limit, at rank 16
MEMORY_TARGET = 1.2  # of the eager limit's peak
QUERY_TARGET = 1.1  # of the eager limit's time
QUERY_TOKENS = (64, 64)  # prompt and response


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured: models, sizes, and the least share of the eager limit's speed at each rank."""

    families: tuple[Family, ...]
    tokens: int  # in a window
    rows: int | None  # in a batch; None: as many as fit
    mixed: int  # windows of mixed lengths
    rounds: int
    query_rounds: int  # more: a pass so short is disturbed as a whole
    at_least: dict[str, float]


CPU = Plan(
    families=("gpt2", "llama"),
    tokens=256,
    rows=8,
    mixed=32,
    rounds=5,
    query_rounds=60,
    at_least={"capture 16": 0.97, "capture 64": 0.94},
)
QUICK = Plan(families=CPU.families, tokens=128, rows=3, mixed=6, rounds=2, query_rounds=4, at_least=CPU.at_least)
CUDA = Plan(
    families=("llama-1b",),
    tokens=512,
    rows=None,
    mixed=128,
    rounds=10,
    query_rounds=60,
    at_least={"capture 16": 0.90, "capture 64": 0.82},
)


def compare(
    model: PreTrainedModel, windows: Sequence[Window], rows: int, variants: Sequence[str], rounds: int
) -> dict[str, Any]:
    """Each variant's tokens a second, and its speed over the eager limit's."""
    passes = {variant: prepare(variant, model, windows, rows) for variant in variants}
    seconds = interleaved(passes, rounds, model.device)
    tokens = sum(len(window.input_ids) for window in windows)
    return {
        "tokens": tokens,
        "tokens_in_batch": rows * max(len(window.input_ids) for window in windows),
        "tokens_per_second": {name: round(tokens / median(seconds[name])) for name in variants},
        "ratio_to_limit": {name: round(median_ratio(seconds, name, "limit"), 3) for name in variants},
        "ratios_of_rounds": {
            name: [round(limit / own, 3) for own, limit in zip(seconds[name], seconds["limit"], strict=True)]
            for name in variants
            if name.startswith("capture")
        },
    }


def measure_family(family: Family, plan: Plan, device: torch.device) -> dict[str, Any]:
    """All comparisons for one model."""
    model = make_model(family, device)
    vocabulary = model.config.vocab_size
    rows = plan.rows or largest_batch(model, plan.tokens)
    prompt, response = QUERY_TOKENS
    question = windows_of([prompt + response], vocabulary, first_target=prompt)
    mixed = windows_of(mixed_lengths(plan.mixed, plan.tokens), vocabulary)
    return {
        "rows": rows,
        "full_windows": compare(model, windows_of([plan.tokens] * rows, vocabulary), rows, FULL, plan.rounds),
        "mixed_lengths": compare(model, mixed, rows, MIXED, plan.rounds),
        "query": compare(model, question, 1, QUERY, plan.query_rounds),
    }


def measure_memory(rows: dict[Family, int], tokens: int, device: torch.device) -> dict[Family, dict[str, Any]]:
    """Peaks of the passes over one batch of so many rows, each in a process of its own, and their ratio to the
    limit's."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    trials = [
        Trial(family=family, variant=variant, lengths=[tokens] * count, rows=count, device=str(device))
        for family, count in rows.items()
        for variant in MEMORY
    ]
    found = {(trial.family, trial.variant): sizes for trial, sizes in zip(trials, measure(trials), strict=True)}
    return {
        family: {
            name: {
                **found[family, name],
                "ratio_to_limit": round(found[family, name]["peak"] / found[family, "limit"]["peak"], 3),
            }
            for name in MEMORY
        }
        for family in rows
    }


def shortfalls(family: str, found: dict[str, Any], plan: Plan) -> list[str]:
    """What misses its target, in words."""
    short = []
    for name, target in plan.at_least.items():
        if (ratio := found["full_windows"]["ratio_to_limit"][name]) < target:
            short.append(f"{family}: {name} runs at {ratio} of the eager limit, not {target}")
        if (ratio := found["peak_bytes"][name]["ratio_to_limit"]) > MEMORY_TARGET:
            short.append(f"{family}: {name} takes {ratio} times the limit's memory, not {MEMORY_TARGET}")
        if (ratio := round(1 / found["query"]["ratio_to_limit"][name], 3)) > QUERY_TARGET:
            short.append(f"{family}: a query takes {ratio} times the limit's time ({name}), not {QUERY_TARGET}")
    if (ratio := found["mixed_lengths"]["ratio_to_limit"]["capture 16"]) < MIXED_TARGET:
        short.append(f"{family}: mixed lengths run at {ratio} of the eager limit, not {MIXED_TARGET}")
    return short


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Windows of 128 tokens in batches of 3, two rounds.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda for a 1B-class model.")] = "cpu",
) -> None:
    """Compare the capture with the eager limit."""
    torch.set_num_threads(THREADS)
    chosen = torch.device(device)
    plan = CUDA if chosen.type == "cuda" else QUICK if quick else CPU
    results = {family: measure_family(family, plan, chosen) for family in plan.families}
    rows = {family: found["rows"] for family, found in results.items()}
    for family, peaks in measure_memory(rows, plan.tokens, chosen).items():
        results[family]["peak_bytes"] = peaks
    falls_short = [line for family, found in results.items() for line in shortfalls(family, found, plan)]
    report = {**described(chosen), "quick": quick, "results": results, "falls_short": falls_short}
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
