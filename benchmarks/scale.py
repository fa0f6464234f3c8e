"""What an index of many documents takes, by what was measured: the tables of docs/scale.md.

    python benchmarks/scale.py [benchmarks/results/index.json]

Sizes follow from the formats. Times are those of the machine that the results are from, scaled by documents and by
bytes; prices are assumptions, named below. Nothing here was run at these sizes.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater_indexer.memory import size
from headwater_indexer.plan import Rows, exact, two_stage

RESULTS = Path(__file__).parent / "results" / "index.json"
DOCUMENTS = {"1 million": 10**6, "100 million": 10**8, "1 billion": 10**9}
WIDTHS = (12_288, 98_304, 393_216)
BYTES = 2_048  # of a record, the default
TOKENS = 512  # of a document
CAPTURE = 4_696  # tokens a second: LoGra's authors, Llama-3-8B, MLP layers, one A100 with 80 GB; not measured by us
GPU_HOUR, GB_MONTH, MEMORY_GB_MONTH = 2.0, 0.08, 3.0  # dollars, assumed
HOURS = 730  # of a month


@dataclass(frozen=True)
class Constants:
    """Of the machine that the results are from."""

    fixed: float  # seconds of a two-stage question, whatever the documents
    seconds_a_byte: float  # of signs
    float32_seconds_a_byte: float
    write: float  # bytes a second

    @classmethod
    def read(cls, results: Path) -> "Constants":
        found: dict[str, Any] = json.loads(results.read_text())
        growth = {int(count): ms / 1e3 for count, ms in found["two_stage"]["growth"].items()}
        few, many = sorted(growth)[-2:]  # of fewer documents a larger share is scored from rows
        slope = (growth[many] - growth[few]) / (many - few)
        return cls(
            fixed=max(0.0, growth[few] - slope * few),
            seconds_a_byte=slope / found["two_stage"]["sign_bytes"],
            float32_seconds_a_byte=found["two_stage"]["float32_scan_of_as_many_rows_ms"]
            / (1e3 * 4 * found["two_stage"]["columns"] * found["two_stage"]["documents"]),
            write=1e6 * found["store"]["write, MB/s"],
        )


def sizes(constants: Constants) -> Iterable[Sequence[str]]:
    """Disk, memory and time of a question, by documents and columns."""
    yield "documents", "columns", "float32 rows", "records", "signs", "memory", "one question, 2 cores", "float32 pass"
    for name, documents in DOCUMENTS.items():
        for width in WIDTHS:
            rows = Rows(documents=documents, width=width, record_bytes=BYTES, plain=False)
            plain = Rows(documents=documents, width=width, record_bytes=0, plain=True)
            signs = rows.sign_bytes * documents
            yield (
                name,
                f"{width:,}",
                size(4 * width * documents),
                size(BYTES * documents),
                size(signs),
                size(two_stage(rows).memory_bytes),
                duration(constants.fixed + signs * constants.seconds_a_byte),
                f"{duration(4 * width * documents * constants.float32_seconds_a_byte)}, "
                f"{size(exact(plain).memory_bytes)} of memory",
            )


def costs(constants: Constants) -> Iterable[Sequence[str]]:
    """Of building once, and of keeping it served for a month."""
    yield "documents", "tokens", "capture, GPU-hours", "dollars once", "writing", "disk a month", "memory a month"
    for name, documents in DOCUMENTS.items():
        rows = Rows(documents=documents, width=WIDTHS[-1], record_bytes=BYTES, plain=False)
        stored, held = documents * (BYTES + rows.sign_bytes), two_stage(rows).memory_bytes
        hours = documents * TOKENS / CAPTURE / 3600
        yield (
            name,
            f"{documents * TOKENS / 1e9:,.1f} billion",
            f"{hours:,.0f}",
            f"{hours * GPU_HOUR:,.0f}",
            duration(stored / constants.write),
            f"{size(stored)}, {stored / 1e9 * GB_MONTH:,.0f} dollars",
            f"{size(held)}, {held / 1e9 * MEMORY_GB_MONTH:,.0f} dollars",
        )


def duration(seconds: float) -> str:
    """For people."""
    if seconds < 1:
        return f"{1e3 * seconds:.0f} ms"
    for unit, length in (("s", 1.0), ("min", 60.0), ("h", 3600.0)):
        if seconds < 100 * length or unit == "h":
            return f"{seconds / length:,.3g} {unit}"
    raise AssertionError


def table(rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; the first row is its head."""
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * (head.count(" | ") + 1), *rest])


def main(results: Annotated[Path, typer.Argument(help="JSON of benchmarks/index.py.")] = RESULTS) -> None:
    """Print both tables."""
    constants = Constants.read(results)
    typer.echo(table(sizes(constants)) + "\n\n" + table(costs(constants)))


if __name__ == "__main__":
    typer.run(main)
