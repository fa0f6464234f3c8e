"""What knows no gradient: BM25 on the words, and the cosine of mean hidden states; both as Headwater has them.

Settings: method (bm25, hidden-states), layer (whose states; 0 is the embedding).
"""

import json
from pathlib import Path

import numpy as np
from contract import Example, Rival, Task, main
from numpy.typing import NDArray

from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.baselines.hidden_states import HiddenStates, cosines
from headwater_indexer.baselines.matrix import bm25_scores
from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.corpus import read_documents
from headwater_indexer.options import BuildOptions
from headwater_indexer.windows import Window


class Words(Rival):
    def __init__(self, task: Task) -> None:
        self._documents = task.raw["documents_file"]
        self._file = task.workspace() / "texts.sqlite"
        self._count = len(task.documents)
        lines = Path(task.raw["queries_file"]).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
        self._questions = [(record.get("prompt") or "", record["response"]) for record in records]

    def index(self) -> None:
        options = BuildOptions()
        FullText.write(self._file, read_documents(self._documents, options.fields, split=options.split))
        self._texts = FullText.open(self._file)

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        """Of the texts of the first queries: of one or of all."""
        questions = self._questions[: len(queries)]
        if all_documents:
            return bm25_scores(self._texts, questions)
        found = [self._texts.search(f"{prompt} {response}", 10) for prompt, response in questions]
        return np.array([[score for _, score in best] for best in found], dtype=np.float32)

    def bytes_per_document(self) -> float:
        return self._file.stat().st_size / self._count


class States(Rival):
    def __init__(self, task: Task) -> None:
        self._documents = task.documents
        self._states = HiddenStates(load_checkpoint(str(task.model), device="cpu", dtype="float32"))
        self._states.layer = task.settings["layer"]

    def index(self) -> None:
        self._rows = self._states([[_window(document)] for document in self._documents])

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        found = cosines(self._states([[_window(query)] for query in queries]), self._rows)
        return found if all_documents else -np.sort(-found, axis=1)[:, :10]

    def bytes_per_document(self) -> float:
        return 4.0 * self._states.width


def _window(example: Example) -> Window:
    return Window(input_ids=example.ids.astype(np.int32), first_target=example.first_target)


def rival(task: Task) -> Rival:
    return Words(task) if task.settings["method"] == "bm25" else States(task)


if __name__ == "__main__":
    main(rival)
