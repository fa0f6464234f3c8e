"""evaluation.json for programs, and report.html for people: one file, no request to anywhere, all text escaped."""

import json
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from headwater_indexer.durable import replacing
from headwater_indexer.evaluation.intervals import Interval, bootstrap
from headwater_indexer.evaluation.plots import Row, dot_plot

JSON_FILE, HTML_FILE = "evaluation.json", "report.html"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number for each method, with what it is made of."""

    name: str
    what: str  # a sentence for people
    methods: dict[str, Float[np.ndarray, " queries"]]

    @property
    def intervals(self) -> dict[str, Interval]:
        return {method: bootstrap(values) for method, values in self.methods.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured, and on what."""

    about: dict[str, Any]  # model, documents, options: names and numbers
    figures: list[Figure]

    def as_json(self) -> dict[str, Any]:
        return self.about | {
            "figures": {
                figure.name: {
                    method: asdict(interval)
                    | {"queries": len(figure.methods[method]), "values": [float(v) for v in figure.methods[method]]}
                    for method, interval in figure.intervals.items()
                }
                for figure in self.figures
            }
        }

    def write(self, folder: Path) -> None:
        for name, text in (
            (JSON_FILE, json.dumps(self.as_json(), indent=1, allow_nan=False) + "\n"),
            (HTML_FILE, as_html(self)),
        ):
            with replacing(folder / name) as aside:
                aside.write_text(text, encoding="utf-8")


def as_html(evaluation: Evaluation) -> str:
    """The whole page. Its policy forbids it to load anything, whatever a name in it says."""
    about = "".join(
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(_said(value))}</td></tr>"
        for name, value in evaluation.about.items()
    )
    sections = "".join(_section(figure) for figure in evaluation.figures)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Headwater: evaluation</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>'
        f"<h1>Evaluation</h1><table>{about}</table>{sections}"
        "<footer>Small dots are queries, large ones their mean; bars and brackets are 95 % intervals of the mean "
        "(bootstrap over queries).</footer></main></body></html>\n"
    )


def _said(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {what}" for name, what in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def _section(figure: Figure) -> str:
    rows = [
        Row(label=method, interval=interval, values=[float(v) for v in figure.methods[method]])
        for method, interval in figure.intervals.items()
    ]
    table = "".join(
        f"<tr><th>{escape(row.label)}</th><td>{row.interval.mean:.3f}</td>"
        f"<td>[{row.interval.low:.3f}, {row.interval.high:.3f}]</td><td>{len(row.values)}</td></tr>"
        for row in rows
    )
    return (
        f"<section><h2>{escape(figure.name)}</h2><p>{escape(figure.what)}</p>{dot_plot(rows, figure.name)}"
        f"<table><tr><th>method</th><td>mean</td><td>95 %</td><td>queries</td></tr>{table}</table></section>"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c2430, #e6e9ee); --quiet: light-dark(#6a7482, #9aa4b2);
  --rule: light-dark(#dde2e8, #323a45); --dot: light-dark(#7fa6c9, #4f7ea6); --mean: light-dark(#b4381f, #ff8a66) }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); margin: 2rem 1rem }
main { max-width: 46rem; margin: auto } h2 { margin: 2.5rem 0 0 } p, footer { color: var(--quiet); margin: 0 0 .5rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; font-weight: normal; padding: .15rem 1.5rem .15rem 0; border-bottom: 1px solid var(--rule) }
th { white-space: nowrap; vertical-align: top } td { overflow-wrap: anywhere }
svg { width: 100%; height: auto; font-size: 13px } svg text { fill: var(--ink) } .tick { fill: var(--quiet) }
.grid { stroke: var(--rule) } .zero { stroke: var(--quiet) } circle { fill: var(--dot); fill-opacity: .55 }
.interval { stroke: var(--mean); stroke-width: 3 } .mean { fill: var(--mean); fill-opacity: 1 }
""".strip()
