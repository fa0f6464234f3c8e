"""Headwater, by its commands: `headwater-index scores` for the scores, `build` for the index that a query is timed on.

Settings: options (of both commands), asked (of `scores` alone: --method hybrid, --rescore all, --refine N).
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from contract import Example, Rival, Task, load_model, main, watched_layers
from numpy.typing import NDArray

from headwater_indexer.capture import capturing
from headwater_indexer.cli import app
from headwater_indexer.index import Index, Pair
from headwater_indexer.layers import select_layers
from headwater_indexer.projection import make_projections
from headwater_indexer.scores import read_queries
from headwater_indexer.windows import Window
from headwater_indexer.workspace import Workspace


class Headwater(Rival):
    def __init__(self, task: Task) -> None:
        self._task = task
        self._folder = task.workspace() / "index"
        self._inputs = ["--model", str(task.model), "--documents", task.raw["documents_file"]]
        self._inputs += task.settings["options"]
        self._asked = task.settings["asked"]
        self._hybrid, self._rescored = "hybrid" in self._asked, "--rescore" in self._asked
        self._questions = [(query.prompt, query.response) for query in read_queries(Path(task.raw["queries_file"]))]

    def index(self) -> None:
        options = ["--out", str(self._folder), "--long-documents", "truncate"]
        options += ["--factors"] if self._rescored else []
        app(["build", *self._inputs, *options], standalone_mode=False)
        self._index = Index.open(self._folder)

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        if all_documents:
            out = self._task.out / "scores.npy"
            options = ["--queries", self._task.raw["queries_file"], "--out", str(out), *self._asked]
            app(["scores", *self._inputs, *options], standalone_mode=False)
            return np.load(out)
        pairs = [_pair(query) for query in queries]
        if self._rescored:
            steps = int(self._asked[self._asked.index("--refine") + 1]) if "--refine" in self._asked else 0
            return np.stack(self._index.rescore(pairs, None, refine=steps))
        if self._hybrid:
            self._index.baseline("bm25", self._questions[: len(queries)])
        hits = self._index.search(self._index.rows(pairs), top_k=10)
        return np.array([[hit.score for hit in found] for found in hits], dtype=np.float32)

    def bytes_per_document(self) -> float:
        """Of the row, and of the words where they count; nothing where all documents are gone through again."""
        if self._rescored:
            return 0.0
        work = Workspace(self._folder)
        rows = json.loads((work.rows / "rows-manifest.json").read_text())
        words = work.full_text.stat().st_size / len(self._task.documents) if self._hybrid else 0.0
        return words + float(rows["width"] * np.dtype(rows.get("dtype", "float32")).itemsize)


def _pair(example: Example) -> Pair:
    ids = tuple(example.ids.tolist())
    return Pair(input_ids=ids, prompt_tokens=example.first_target, response_tokens=len(ids) - example.first_target)


def capture(task: Task) -> Callable[[], object]:
    model = load_model(task, linear=False).requires_grad_(False)
    names = watched_layers(model, task.settings["layers"])
    layers = [layer for layer in select_layers(model, "all") if layer.name in names]
    projections = make_projections("random", layers, rank=task.settings["rank"], seed=0)
    windows = [Window(input_ids=e.ids.astype(np.int32), first_target=e.first_target) for e in task.documents]

    def once() -> None:
        with capturing(
            model, layers, projections, batch_tokens=8 * max(map(len, (w.input_ids for w in windows)))
        ) as rows:
            for _ in rows.batches(windows):
                pass

    return once


if __name__ == "__main__":
    main(Headwater, capture)
