"""Plots as SVG text: one row for each method, a dot for each query, the mean and its 95 % interval over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

from headwater_indexer.evaluation.intervals import Interval

Scale = Callable[[float], float]
WIDTH, LEFT, RIGHT, ROW, TOP = 720, 130, 24, 34, 8  # pixels
TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one method reached."""

    label: str
    interval: Interval
    values: Sequence[float]  # one for each query


def dot_plot(rows: Sequence[Row], title: str) -> str:
    """A self-contained <svg>; nothing in it is taken as markup."""
    low, high = _range([value for row in rows for value in (*row.values, row.interval.low, row.interval.high)])
    height = TOP + ROW * len(rows) + 26

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    lines = [_axis(x, tick, height) for tick in _ticks(low, high)]
    if low < 0 < high:
        lines.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP}" y2="{height - 22}"/>')
    lines += [_row(x, row, TOP + ROW * number + ROW / 2) for number, row in enumerate(rows)]
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(lines)}</svg>"
    )


def _row(x: Scale, row: Row, y: float) -> str:
    # Dots of one value lie above one another: shifted by their place, the same in every plot.
    shift = [((7 * number) % 11 - 5) * 0.8 for number in range(len(row.values))]
    dots = "".join(
        f'<circle cx="{x(value):.1f}" cy="{y + up:.1f}" r="2.5"/>' for value, up in zip(row.values, shift, strict=True)
    )
    mean = row.interval
    return (
        f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(row.label)}</text>{dots}'
        f'<line class="interval" x1="{x(mean.low):.1f}" x2="{x(mean.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle class="mean" cx="{x(mean.mean):.1f}" cy="{y:.1f}" r="5"/>'
    )


def _axis(x: Scale, tick: float, height: int) -> str:
    return (
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{height - 22}"/>'
        f'<text class="tick" x="{x(tick):.1f}" y="{height - 8}" text-anchor="middle">{tick:g}</text>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _ticks(low: float, high: float) -> Float[np.ndarray, " ticks"]:
    """Round numbers, about TICKS of them."""
    rough = (high - low) / TICKS
    scale = 10.0 ** np.floor(np.log10(rough))
    step = scale * min((unit for unit in (1, 2, 5, 10) if unit * scale >= rough), default=10)
    return np.asarray(np.round(np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step, 12) + 0.0)  # no -0
