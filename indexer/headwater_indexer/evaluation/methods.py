"""The scores of all documents for all queries, by each method that is compared."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from headwater_indexer.baselines.matrix import BM25_WEIGHT, Question, hidden_state_scores, hybrid_scores
from headwater_indexer.ekfac.matrix import Rescoring, rescored_matrix
from headwater_indexer.errors import UsageError
from headwater_indexer.index import Index
from headwater_indexer.scores import Query, score_matrix
from headwater_indexer.windows import Encoder
from headwater_indexer.workspace import Workspace

Method = Literal["influence", "relatif", "rescored", "refined", "hybrid", "bm25", "hidden-states", "random"]
METHODS: tuple[Method, ...] = get_args(Method)
WHAT = {
    "influence": "inner products of whitened rows",
    "relatif": "influence over the document's own size",
    "rescored": "influence by unprojected gradients and EK-FAC",
    "refined": "the same, some steps of conjugate gradients past EK-FAC",
    "hybrid": f"influence and {BM25_WEIGHT} BM25, both standardised",
    "bm25": "words in common",
    "hidden-states": "cosine of mean states of the middle layer",
    "random": "an order drawn for each query",
}


NEED_FACTORS: frozenset[Method] = frozenset({"rescored", "refined"})


def parse_methods(text: str) -> tuple[Method, ...]:
    """Names with commas between them. Raises UsageError for one that there is not."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or (unknown := [name for name in names if name not in METHODS]):
        raise UsageError(f"--methods {text}: {unknown[0] if names else 'none'} is not one of {', '.join(METHODS)}")
    return tuple(method for method in METHODS if method in names)


def scores_by_method(
    index: Index,
    queries: Sequence[Query],
    methods: Sequence[Method],
    *,
    candidates: int | None = None,
    refine: int = 2,
    seed: int = 0,
) -> dict[Method, Float32[np.ndarray, "queries documents"]]:
    """Each method's matrix; the rows of the queries are computed once for all that need them.

    `rescored` and `refined` score `candidates` of each query again, or all; `refined` with `refine` steps.
    """
    questions = [(query.prompt, query.response) for query in queries]
    found: dict[Method, Float32[np.ndarray, "queries documents"]] = {}
    influence = bm25 = np.zeros((0, 0), dtype=np.float32)
    pairs = [index.encode_truncated(query.prompt, query.response) for query in queries]
    if ({"influence", "relatif", "hybrid"} | (NEED_FACTORS if candidates else set())) & set(methods):
        influence = score_matrix(index, list(queries))
    if {"bm25", "hybrid"} & set(methods):
        bm25 = index.baseline("bm25", questions)
    for method in methods:
        match method:
            case "influence":
                found[method] = influence
            case "relatif":
                norms = index.norms
                found[method] = (influence / np.where(norms > 0, norms, 1)).astype(np.float32)
            case "rescored":
                found[method] = rescored_matrix(index, pairs, influence, Rescoring(candidates=candidates))
            case "refined":
                how = Rescoring(candidates=candidates, refine=refine)
                found[method] = rescored_matrix(index, pairs, influence, how)
            case "hybrid":
                found[method] = hybrid_scores(influence, bm25)
            case "bm25":
                found[method] = bm25
            case "hidden-states":
                found[method] = _hidden_states(index, questions)
            case "random":
                draw = np.random.default_rng(seed)
                found[method] = draw.random((len(queries), len(index.documents)), dtype=np.float32)
    return found


def _hidden_states(index: Index, questions: Sequence[Question]) -> Float32[np.ndarray, "queries documents"]:
    """From the index where it keeps them, else by a forward pass over its documents."""
    if Workspace(index.folder).embeddings.exists():
        return index.baseline("hidden-states", questions)
    windows = index.manifest.windows
    encoder = Encoder(index.checkpoint.tokenizer, windows.max_length)
    return hidden_state_scores(index.checkpoint, encoder, index.documents, questions, long=windows.long_documents)
