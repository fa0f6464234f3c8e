"""What every rival is given: the tokens of documents and queries as `headwater-index scores` cuts them, and models."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar
from workloads import Family, make_model, windows_of

from headwater_indexer.corpus import read_documents
from headwater_indexer.evaluation.truth import GroundTruth
from headwater_indexer.options import BuildOptions
from headwater_indexer.scores import read_queries
from headwater_indexer.windows import Encoder, Window

Examples = Iterable[tuple[np.ndarray, int]]  # token ids, first target


def write_truth(truth: GroundTruth, max_length: int, path: Path) -> None:
    """All tokens of a ground truth; a document or query that is too long loses its end."""
    options = BuildOptions(long_documents="truncate")
    encoder = Encoder(AutoTokenizer.from_pretrained(truth.model), max_length)
    documents = [
        encoder.document(document, long="truncate")
        for document in read_documents(str(truth.documents), options.fields, split=options.split)
    ]
    if any(len(windows) != 1 for windows in documents):
        raise SystemExit(
            f"{truth.documents} has documents without a token to predict: the rivals cannot be given those"
        )
    pairs = [encoder.truncated_pair(query.prompt, query.response) for query in read_queries(truth.queries)]
    _write(
        path, documents=_examples(window for (window,) in documents), queries=_examples(pair.window for pair in pairs)
    )


def write_capture(family: Family, model: Path, path: Path, count: int) -> None:
    """A model of random weights, and `count` windows of random tokens, each as long as its context."""
    import torch

    disable_progress_bar()
    made = make_model(family, torch.device("cpu"))
    made.save_pretrained(model)
    config = made.config
    windows = windows_of([config.max_position_embeddings] * count, config.vocab_size)
    _write(path, documents=_examples(windows), queries=_examples(windows[:1]))


def _examples(windows: Iterable[Window]) -> Examples:
    return [(np.asarray(window.input_ids, dtype=np.int64), window.first_target) for window in windows]


def _write(path: Path, **parts: Examples) -> None:
    arrays: dict[str, Any] = {}
    for name, examples in parts.items():
        ids = [row for row, _ in examples]
        arrays[f"{name}_ids"] = np.concatenate(ids)
        arrays[f"{name}_starts"] = np.cumsum([0, *map(len, ids[:-1])])
        arrays[f"{name}_first_targets"] = np.array([first for _, first in examples])
    np.savez(path, allow_pickle=False, **arrays)
