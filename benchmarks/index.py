"""The index at scale: exact and two-stage search, its store, and the memory of a build, beside plain arithmetic.

    python benchmarks/index.py [--quick] [--folder DIR] [--prepare] [--plot FILE.svg]

Exact search is compared with one plain product of the same float32 rows and the queries. Two-stage search runs over
records of 12,288 columns in 3,080 bytes and one bit a column in memory, of up to 1,000,000 documents
(`synthetic_rows`: clusters, near duplicates, lengths with a heavy tail), and is compared with a float32 pass over so
many rows, which is measured on a part, in turns with the questions, and scaled. Recall is against the exact search of
all the same rows, which for these rows ranks as float32 does. A million records take minutes to draw: `--prepare` does
that alone, in `--folder` (4.6 GB), and a later run finds them there. `--quick` draws 20,000, too few for a query's
fixed cost to vanish: it compares what one document more costs. Prints one JSON object; the exit code is 0 only when
nothing falls short.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from disk import measure_store
from exact_scan import measure_codes, measure_flat
from growing import memory_of_builds
from measuring import THREADS, conclude, described
from two_stages import draw, measure_two_stages, prepare

BOUNDS = {
    "exact over plain product": 1.15,
    "growth of exact search": 1.05,  # exponents
    "growth of two-stage search": 0.95,
    "two-stage over float32 scan": 1 / 15,
    "recall at 10": 0.99,
    "memory over float16 rows": 1 / 12,
    "64 queries over 64 single ones": 1 / 4,
    "writing over plain write": 0.7,
    "reading over plain read": 0.8,
    "memory of a larger build": 1.05,
}
AT_LEAST = {"recall at 10", "writing over plain write", "reading over plain read"}
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK_SIZES = (5_000, 10_000, 20_000)


def falls_short(ratios: dict[str, float]) -> list[str]:
    """What misses its bound, in words."""
    return [
        f"{name}: {value:.3f}, wanted at {'least' if name in AT_LEAST else 'most'} {BOUNDS[name]:.3f}"
        for name, value in ratios.items()
        if (value < BOUNDS[name] if name in AT_LEAST else value > BOUNDS[name])
    ]


def main(
    quick: Annotated[bool, typer.Option("--quick", help="20,000 documents.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where the records are drawn, and kept.")] = None,
    only_prepare: Annotated[bool, typer.Option("--prepare", help="Draw the records, and end.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Where to draw the cost of a question against documents.")] = None,
) -> None:
    """Compare search and store with plain arithmetic and plain files."""
    torch.set_num_threads(THREADS)
    sizes = QUICK_SIZES if quick else SIZES
    with tempfile.TemporaryDirectory() as aside:
        kept = folder or Path(aside)
        if only_prepare:
            prepare(kept, sizes[-1])
            return
        flat = measure_flat(12_000 if quick else 40_000)  # a quarter of these is more than a cache holds
        two = measure_two_stages(kept, sizes, at_the_margin=quick)
        store = measure_store(Path(aside), megabytes=128 if quick else 512)
        builds = memory_of_builds(Path(aside), (1_100, 2_200) if quick else (4_400, 8_800), rounds=1 if quick else 3)
        codes = measure_codes(500 if quick else 2_000)
    ratios = {**flat["ratios"], **two["ratios"], **store["ratios"], **builds["ratios"]}
    report: dict[str, Any] = {
        **described(torch.device("cpu")),
        "quick": quick,
        "ratios": {name: round(value, 4) for name, value in ratios.items()},
        "exact": flat["found"],
        "rows_of_few_bits": codes,
        "two_stage": two["found"],
        "store": store["found"],
        "builds": builds["found"],
        "falls_short": falls_short(ratios),
    }
    if plot is not None:
        draw(two["found"]["growth"], plot)
    conclude(report)


if __name__ == "__main__":
    typer.run(main)
