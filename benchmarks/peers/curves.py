"""Which points of rivals lie above Headwater's curve: more accurate, or as accurate for less."""

from collections.abc import Callable, Sequence
from typing import Any

Measured = dict[str, Any]
OURS = "headwater"
BASELINES = "baselines"  # by Headwater's own code, so that they are points of its curve where time counts


def best_within(points: Sequence[Measured], cost: Callable[[Measured], float], limit: float) -> Measured | None:
    """The most accurate of those that cost at most so much."""
    affordable = [point for point in points if cost(point) <= limit]
    return max(affordable, key=lambda point: float(point["lds"]), default=None)


def bytes_stored(point: Measured) -> float:
    return float(point["bytes_per_document"])


def plain_passes(point: Measured) -> float:
    """Of one query, in plain forward and backward passes of its tokens, timed in the same process: how busy the
    machine was cancels out."""
    return float(point["query_seconds_1"]) / float(point["plain_pass_seconds_1"])


def stores(point: Measured) -> bool:
    """Whether it keeps anything of a document; the others go through all documents again at each query."""
    return bytes_stored(point) > 0


def falls_short(points: Sequence[Measured]) -> list[str]:
    """A sentence for each point of a rival that Headwater does not beat at the same cost."""
    ours = [point for point in points if point["rival"] == OURS]
    theirs = [point for point in points if point["rival"] != OURS]
    baselines = [point for point in theirs if point["rival"] == BASELINES]
    by_bytes = [
        sentence
        for kind in (True, False)  # what stores nothing would beat all that stores something
        for sentence in _not_beaten(
            [point for point in ours if stores(point) == kind],
            [point for point in theirs if stores(point) == kind],
            bytes_stored,
            "bytes a document",
        )
    ]
    others = [point for point in theirs if point["rival"] != BASELINES]
    return by_bytes + _not_beaten([*ours, *baselines], others, plain_passes, "plain passes a query")


def _not_beaten(
    ours: Sequence[Measured], theirs: Sequence[Measured], cost: Callable[[Measured], float], unit: str
) -> list[str]:
    found = []
    for point in theirs:
        best = best_within(ours, cost, cost(point))
        if best is not None and best["lds"] > point["lds"]:
            continue
        ahead = (
            f"Headwater's best within that is {best['name']} with {best['lds']}" if best else "Headwater has nothing"
        )
        found.append(f"{point['rival']} {point['name']}: LDS {point['lds']} at {cost(point):,.1f} {unit}; {ahead}")
    return found
