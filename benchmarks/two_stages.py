"""Two-stage search over synthetic records: time, recall, memory, and how its cost grows with the documents."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import current_bytes
from synthetic_rows import WIDTH, Corpus

from headwater_indexer.best import best
from headwater_indexer.coded_search import CodedSearch
from headwater_indexer.measured_recall import FEWEST, measure
from headwater_indexer.search import Hit, ScoreKind, Sign, hits
from headwater_indexer.signs.scan import SignScan
from headwater_indexer.store.reader import RowReader
from headwater_indexer.two_stage import TwoStageSearch

QUERIES = 32
TOGETHER = 64
PLAIN_ROWS = 8_000  # of the float32 pass, 393 MB: more than a cache holds
CPU = torch.device("cpu")


class Known:
    """Exact search whose scores have been computed: of all documents for all queries, once."""

    def __init__(self, influences: np.ndarray, norms: np.ndarray) -> None:
        self._influences = influences
        self._norms = norms

    def __call__(self, queries: np.ndarray, *, top_k: int, score: ScoreKind, sign: Sign) -> list[list[Hit]]:  # noqa: ARG002
        """Of the queries that the scores are of."""
        scores = self._influences if score == "influence" else self._influences / self._norms
        scores = scores if sign == "positive" else -scores
        ordinals = np.arange(scores.shape[1])
        return hits(*best(scores, ordinals, top_k), searched=len(ordinals), sign=sign)


def prepare(folder: Path, documents: int) -> None:
    """Records, signs, and all exact scores of the queries, where they are not in the folder."""
    corpus = Corpus(documents)
    records, _ = corpus.write(folder)
    known = folder / "influences.npy"
    if not known.exists():
        exact = CodedSearch(corpus.coder, RowReader.open(records))
        np.save(known, exact.influences(corpus.queries(QUERIES)), allow_pickle=False)


def measure_two_stages(folder: Path, sizes: Sequence[int], *, at_the_margin: bool) -> dict[str, Any]:
    """The last of `sizes` beside a float32 pass over as many rows; `at_the_margin` compares the cost of one document
    more."""
    prepare(folder, sizes[-1])
    corpus = Corpus(sizes[-1])
    records, signs = corpus.write(folder)
    queries = corpus.queries(QUERIES)
    ask(open_search(corpus, records, signs, 20_000), queries[:1])  # compiles
    before = current_bytes(CPU)
    search = open_search(corpus, records, signs, sizes[-1])
    held = current_bytes(CPU) - before
    known = Known(np.load(folder / "influences.npy"), search.norms)
    recall = measure(known, search, queries, [-1] * QUERIES)
    search = search.with_candidates(recall.candidates)
    beside = interleave(search, corpus.queries(TOGETHER))
    held = max(held, current_bytes(CPU) - before - known._influences.nbytes - beside.pop("bytes"))
    smaller = {count: open_search(corpus, records, signs, count) for count in sizes[:-1]}
    every = {count: one.with_candidates(recall.candidates) for count, one in (smaller | {sizes[-1]: search}).items()}
    growing = growth(every, queries)
    cost, scan = beside["single"], beside["float32 row"] * sizes[-1]
    if at_the_margin:
        cost, scan = growing[sizes[-1]] - growing[sizes[0]], beside["float32 row"] * (sizes[-1] - sizes[0])
    return {
        "ratios": {
            "two-stage over float32 scan": cost / scan,
            "recall at 10": recall.at_10,
            "memory over float16 rows": held / (2 * WIDTH * sizes[-1]),
            "64 queries over 64 single ones": beside["together"] / (TOGETHER * beside["single"]),
            "growth of two-stage search": exponent(growing),
        },
        "found": {
            "documents": sizes[-1],
            "columns": WIDTH,
            "record_bytes": corpus.coder.bytes,
            "sign_bytes": corpus.signs.bytes,
            "candidates": recall.candidates,
            "recall_at_10": recall.at_10,
            "recall_at_100": recall.at_100,
            "queries": recall.queries,
            "resident_bytes": held,
            "one_query_p50_ms": round(1e3 * beside["single"], 2),
            "float32_scan_of_as_many_rows_ms": round(1e3 * beside["float32 row"] * sizes[-1], 1),
            "64_queries_ms": round(1e3 * beside["together"], 1),
            "growth": {str(count): round(1e3 * seconds, 2) for count, seconds in growing.items()},
            "deviations_of_the_best": spread(known, queries, search.norms),
        },
    }


def ask(search: TwoStageSearch, queries: np.ndarray) -> None:
    search(queries, top_k=10, score="relatif", sign="positive")


def seconds_of(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleave(search: TwoStageSearch, queries: np.ndarray) -> dict[str, Any]:
    """Seconds of one query, of all together and of one row of a float32 pass, each the median of turns that they take,
    so that a busy machine slows all of them alike; and the bytes of the rows."""
    rows = np.random.default_rng(0).standard_normal((PLAIN_ROWS, WIDTH), dtype=np.float32)
    taken: dict[str, list[float]] = {"single": [], "together": [], "float32 row": []}
    for number, query in enumerate(queries):
        ask(search, query[None])  # its records are in the system's cache when it is asked again
        taken["single"].append(seconds_of(partial(ask, search, query[None])))
        taken["float32 row"].append(seconds_of(partial(np.matmul, rows, query)) / PLAIN_ROWS)
        if number % 8 == 0:
            taken["together"].append(seconds_of(partial(ask, search, queries)))
    return {**{name: statistics.median(seconds) for name, seconds in taken.items()}, "bytes": rows.nbytes}


def growth(searches: dict[int, TwoStageSearch], queries: np.ndarray) -> dict[int, float]:
    """Seconds of a query, medians of turns."""
    taken: dict[int, list[float]] = {count: [] for count in searches}
    for query in queries:
        for count, search in searches.items():
            ask(search, query[None])
            taken[count].append(seconds_of(partial(ask, search, query[None])))
    return {count: statistics.median(seconds) for count, seconds in taken.items()}


def open_search(corpus: Corpus, records: Any, signs: Any, count: int) -> TwoStageSearch:
    """Over the first so many documents."""
    stored = RowReader.open(signs)
    scan = SignScan.of(corpus.signs, count, first_of(stored, count))
    exact = CodedSearch(corpus.coder, RowReader.open(records), norms=scan.norms)
    return TwoStageSearch(scan, exact, candidates=FEWEST)


def first_of(stored: RowReader, count: int) -> Any:
    done = 0
    for block in stored.blocks(4_096):
        yield block[: count - done]
        done += len(block)
        if done >= count:
            return


def exponent(growing: dict[int, float]) -> float:
    """Of the cost in the number of documents, by least squares of the logarithms."""
    slope, _ = np.polyfit([math.log(count) for count in growing], [math.log(took) for took in growing.values()], 1)
    return float(slope)


def spread(known: Known, queries: np.ndarray, norms: np.ndarray) -> dict[str, float]:
    """How far the documents of some ranks stand out: their cosine over the 1 / sqrt(columns) of unrelated rows."""
    scores = known._influences / norms / np.linalg.norm(queries, axis=1, keepdims=True) * WIDTH**0.5
    top = -np.sort(np.partition(-scores, 100, axis=1)[:, :100], axis=1)
    return {f"rank {rank}": round(float(np.median(top[:, rank - 1])), 1) for rank in (1, 2, 5, 10, 50, 100)}


def draw(growing: dict[str, float], path: Path) -> None:
    """The cost of a question against the number of documents."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    counts, took = [int(count) for count in growing], list(growing.values())
    axes.plot(counts, took, marker="o", label="two-stage")
    axes.plot(counts, [took[-1] * count / counts[-1] for count in counts], linestyle="--", label="linear")
    axes.set(xscale="log", yscale="log", xlabel="documents", ylabel="one question, ms")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
