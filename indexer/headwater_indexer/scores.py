"""The matrix of influence scores, [queries, documents], that attributions are graded by."""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.baselines.matrix import bm25_scores, hidden_state_scores, hybrid_scores
from headwater_indexer.build import build_index
from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.corpus import read_documents
from headwater_indexer.durable import replacing
from headwater_indexer.ekfac.matrix import Rescoring, rescored_matrix
from headwater_indexer.errors import CorpusError, UsageError
from headwater_indexer.index import Index
from headwater_indexer.options import BuildOptions, ScoreMethod
from headwater_indexer.progress import Progress, Silent
from headwater_indexer.windows import Encoder

ROWS_AT_ONCE = 64  # queries whose whitened rows are in memory together


@dataclass(frozen=True)
class Query:
    """One question of a file of queries, and where it is known to come from: a document's id, or a source's name."""

    id: str
    prompt: str
    response: str
    source_id: str | None = None
    source: str | None = None


def read_queries(path: Path) -> list[Query]:
    """Queries from JSONL: {"id", "prompt", "response"}, and "source_id" or "source" where known; other fields ignored.

    Raises CorpusError with the line."""
    queries: list[Query] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            known = {name: str(record[name]) for name in ("source_id", "source") if record.get(name) is not None}
            query = Query(id=str(record["id"]), prompt=record.get("prompt") or "", response=record["response"], **known)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise CorpusError(f'{path}:{number}: a query is {{"id": ..., "prompt": ..., "response": ...}}') from error
        if not isinstance(query.prompt, str) or not isinstance(query.response, str) or not query.response:
            raise CorpusError(
                f"{path}:{number}: query {query.id!r}: prompt and response must be text, response not empty"
            )
        queries.append(query)
    if not queries:
        raise CorpusError(f"{path} holds no queries")
    return queries


def score_matrix(index: Index, queries: list[Query]) -> Float32[np.ndarray, "queries documents"]:
    """Influence of every document on every query, in the documents' order; what is too long is cut at its end."""
    pairs = [index.encode_truncated(query.prompt, query.response) for query in queries]
    starts = range(0, len(pairs), ROWS_AT_ONCE)
    return np.concatenate([index.influences(index.rows(pairs[start : start + ROWS_AT_ONCE])) for start in starts])


def write_scores(
    model: str,
    documents: str,
    queries_file: Path,
    out: Path,
    options: BuildOptions,
    *,
    method: ScoreMethod = "influence",
    rescoring: Rescoring | None = None,
    revision: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Scores all documents for all queries, writes `out` as float32 .npy; returns its shape.

    An index is built aside where the method needs one. `rescoring` scores again by unprojected gradients.
    """
    if rescoring is not None and method in ("bm25", "hidden-states"):
        raise UsageError(f"--rescore is about influence, and --method {method} has none: leave one of them out")
    progress = progress or Silent()
    queries = read_queries(queries_file)
    questions = [(query.prompt, query.response) for query in queries]
    if method == "bm25":
        texts = FullText.in_memory(read_documents(documents, options.fields, split=options.split))
        return _write(out, bm25_scores(texts, questions))
    if method == "hidden-states":
        checkpoint = load_checkpoint(model, revision=revision, device=device, dtype=options.dtype)
        stream = read_documents(documents, options.fields, split=options.split)
        encoder = Encoder(checkpoint.tokenizer, options.window_length(checkpoint))
        return _write(out, hidden_state_scores(checkpoint, encoder, stream, questions, long=options.long_documents))
    with tempfile.TemporaryDirectory(prefix="headwater-scores-", dir=out.resolve().parent) as aside:
        folder = Path(aside)
        options = replace(options, factors=options.factors or rescoring is not None)
        build_index(model, documents, folder, options, revision=revision, device=device, progress=progress)
        index = Index.open(folder, device=device, progress=progress)
        try:
            matrix = _influence(index, queries, rescoring)
            if method == "hybrid":
                matrix = hybrid_scores(matrix, index.baseline("bm25", questions))
        finally:
            index.close()
    return _write(out, matrix)


def _influence(
    index: Index, queries: list[Query], rescoring: Rescoring | None
) -> Float32[np.ndarray, "queries documents"]:
    if rescoring is None:
        return score_matrix(index, queries)
    by_rows = None if rescoring.candidates is None else score_matrix(index, queries)
    pairs = [index.encode_truncated(query.prompt, query.response) for query in queries]
    return rescored_matrix(index, pairs, by_rows, rescoring)


def _write(out: Path, matrix: Float32[np.ndarray, "queries documents"]) -> tuple[int, int]:
    with replacing(out) as target, target.open("wb") as file:
        np.save(file, matrix, allow_pickle=False)
    return matrix.shape[0], matrix.shape[1]
