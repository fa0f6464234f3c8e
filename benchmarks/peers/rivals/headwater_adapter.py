"""Headwater, by its commands: `headwater-index scores` for the scores, `build` for the index that a query is timed on.

Settings: options (of both commands), method (of `scores`: influence, or hybrid, which adds BM25), refine (null; or all
documents are scored by unprojected gradients, after so many steps of conjugate gradients: no row is read then).
"""

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
        self._refine = task.settings["refine"]
        self._hybrid = task.settings["method"] == "hybrid"
        self._questions = [(query.prompt, query.response) for query in read_queries(Path(task.raw["queries_file"]))]

    def index(self) -> None:
        options = ["--out", str(self._folder), "--long-documents", "truncate"]
        app(["build", *self._inputs, *options], standalone_mode=False)
        self._index = Index.open(self._folder)

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        if self._refine is not None:
            return np.stack(self._index.rescore([_pair(query) for query in queries], None, refine=self._refine))
        if all_documents:
            out = self._task.out / "scores.npy"
            options = ["--queries", self._task.raw["queries_file"], "--out", str(out)]
            app(["scores", *self._inputs, *options, "--method", self._task.settings["method"]], standalone_mode=False)
            return np.load(out)
        if self._hybrid:
            self._index.baseline("bm25", self._questions[: len(queries)])
        hits = self._index.search(self._index.rows([_pair(query) for query in queries]), top_k=10)
        return np.array([[hit.score for hit in found] for found in hits], dtype=np.float32)

    def bytes_per_document(self) -> float:
        """Of the search index, and of the words' where those count: all that a query reads."""
        if self._refine is not None:
            return 0.0
        work = Workspace(self._folder)
        files = [work.search, work.full_text] if self._hybrid else [work.search]
        return sum(file.stat().st_size for file in files) / len(self._task.documents)


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
