"""The comparison's table and plots, from what run.py printed.

    python benchmarks/peers/draw.py benchmarks/results/peers.json docs

Writes comparison-bytes.svg and comparison-seconds.svg, and the tables and the list of what falls short between the
markers of comparison.md.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer
from curves import Measured, bytes_stored, plain_passes, stores
from matplotlib import pyplot as plt

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "peers", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"})
COLOURS = {
    "headwater": "#0b6e4f",
    "kronfluence": "#b3541e",
    "bergson": "#5b3e96",
    "dattri": "#1f77b4",
    "logix": "#c2185b",
    "baselines": "#777777",
}
NO_BYTES = 64.0  # where points that store nothing are drawn


def drawn_bytes(point: Measured) -> float:
    return bytes_stored(point) or NO_BYTES


def frontier(points: Sequence[Measured], cost: Callable[[Measured], float]) -> list[Measured]:
    """Those that no cheaper point of the same library matches, the cheapest first."""
    best: list[Measured] = []
    for point in sorted(points, key=lambda point: (cost(point), -point["lds"])):
        if not best or point["lds"] > best[-1]["lds"]:
            best.append(point)
    return best


def draw(points: Sequence[Measured], cost: Callable[[Measured], float], label: str, title: str, path: Path) -> None:
    """A dot for each point, and a line through each library's frontier; diamonds for what stores nothing, which has no
    part in a curve over bytes."""
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for rival, colour in COLOURS.items():
        of_rival = [point for point in points if point["rival"] == rival]
        if not of_rival:
            continue
        ours = rival == "headwater"
        for kind, marker in ((True, "o"), (False, "D")):
            of_kind = [point for point in of_rival if stores(point) == kind]
            axes.scatter(
                [cost(point) for point in of_kind],
                [point["lds"] for point in of_kind],
                color=colour,
                marker=marker,
                s=26 if ours else 16,
                alpha=0.9 if ours else 0.55,
                linewidths=0,
            )
        best = frontier([point for point in of_rival if stores(point) or cost is not drawn_bytes], cost)
        axes.step(
            [cost(point) for point in best],
            [point["lds"] for point in best],
            where="post",
            color=colour,
            linewidth=2.2 if ours else 1.1,
            label={"headwater": "Headwater", "baselines": "BM25, hidden states"}.get(rival, rival),
        )
    axes.set(xscale="log", xlabel=label, ylabel="LDS", title=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def points_table(points: Sequence[Measured]) -> str:
    """Each point, the most accurate first."""
    lines = [
        "| library | setting | LDS (95 %) | bytes a document | index, ms a document | one query, ms | in plain passes "
        "| 64 queries, ms | peak, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for point in sorted(points, key=lambda point: -point["lds"]):
        low, high = point["interval_95"]
        several = next(name for name in point if re.fullmatch(r"query_seconds_(?!1$)\d+", name))
        lines.append(
            f"| {point['rival']} | {point['name']} | {point['lds']:.3f} ({low:.3f} to {high:.3f}) "
            f"| {point['bytes_per_document']:,.0f} | {1e3 * point['index_seconds_per_document']:.2f} "
            f"| {1e3 * point['query_seconds_1']:,.1f} | {plain_passes(point):,.1f} "
            f"| {1e3 * point[several]:,.0f} | {point['peak_memory_bytes'] / 1e6:,.0f} |"
        )
    return "\n".join(lines)


def capture_table(capture: Sequence[Measured]) -> str:
    lines = [
        "| model | library | size | tokens a second | of a plain pass | peak, MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['model']} | {row['rival']} | {row['name']} | {row['tokens_per_second']:,.0f} "
        f"| {row['of_plain_pass']:.2f} | {row['peak_memory_bytes'] / 1e6:,.0f} |"
        for row in capture
    ]
    return "\n".join(lines)


def with_table(text: str, name: str, table: str) -> str:
    """The text with the table between its markers. Raises ValueError where they are missing."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"the page has no place for the table: {begin.strip()} and {end.strip()}")
    return text[: text.index(begin) + len(begin)] + table + text[text.index(end) :]


def main(
    results: Annotated[Path, typer.Argument(help="The JSON that run.py printed.")],
    docs: Annotated[Path, typer.Argument(help="Folder with comparison.md.")],
) -> None:
    """Draw the plots and fill the tables in."""
    report: dict[str, Any] = json.loads(results.read_text())
    points = report["points"]
    truth = report["ground_truth"]

    draw(
        points,
        drawn_bytes,
        "bytes that a query reads of each document (diamonds store nothing and go through all documents again)",
        f"Accuracy against storage ({truth})",
        docs / "comparison-bytes.svg",
    )
    usual = sorted(point["plain_pass_seconds_1"] for point in points)[len(points) // 2]
    draw(
        points,
        lambda point: plain_passes(point) * usual,
        "seconds of one query",
        f"Accuracy against the time of a query ({truth})",
        docs / "comparison-seconds.svg",
    )
    page = docs / "comparison.md"
    short = "\n".join(f"- {sentence}" for sentence in report["falls_short"]) or "Nowhere in this run."
    text = with_table(page.read_text(), "falls short", short)
    text = with_table(text, "points", points_table(points))
    page.write_text(with_table(text, "capture", capture_table(report["capture"])))


if __name__ == "__main__":
    typer.run(main)
