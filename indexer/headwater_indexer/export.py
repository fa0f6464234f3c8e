"""What an index knows, for other programs: rows as Parquet, and attributions as PAIR's viewer reads them.

The viewer (github.com/PAIR-code/pretraining-tda) takes JSONL: for each question a list of proponents, documents that
work for the response, and of opponents, which work against it, with their ids, texts and scores.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from headwater_indexer.catalogue import open_catalogue
from headwater_indexer.codes.coder import Coder
from headwater_indexer.durable import replacing
from headwater_indexer.errors import MissingPackage
from headwater_indexer.index import Index
from headwater_indexer.manifest import Manifest
from headwater_indexer.progress import Progress, Silent
from headwater_indexer.scores import Query
from headwater_indexer.search import ScoreKind, Sign
from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace

ROWS_AT_ONCE = 256
QUESTIONS_AT_ONCE = 64


def export_rows(folder: Path, out: Path, *, progress: Progress | None = None) -> int:
    """Writes a Parquet file with a record for each document; returns how many.

    `row` is the whitened row in float32, as it is stored or as its codes tell it: influence is the inner product of
    two of them. Raises MissingPackage without pyarrow.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingPackage("Parquet needs pyarrow: pip install 'headwater[datasets]'") from error
    manifest = Manifest.read(folder)
    text, number = arrow.string(), arrow.int64()
    row = arrow.list_(arrow.float32(), manifest.width)
    columns = {"id": text, "source": text, "windows": number, "tokens": number, "metadata": text, "row": row}
    schema = arrow.schema(list(columns.items()), metadata={"headwater_index": manifest.version})
    with (
        open_catalogue(folder, manifest) as there,
        replacing(out) as aside,
        parquet.ParquetWriter(aside, schema) as writer,
        (progress or Silent()).step("rows", len(there), "doc") as step,
    ):
        documents = there.sized()
        for rows in _left_rows(Workspace(folder), manifest, there.numbering.removed):
            found = [next(documents) for _ in rows]
            written = {
                "id": [document.id for document, _, _ in found],
                "source": [document.source for document, _, _ in found],
                "windows": [windows for _, windows, _ in found],
                "tokens": [tokens for _, _, tokens in found],
                "metadata": [json.dumps(document.metadata, ensure_ascii=False) for document, _, _ in found],
                "row": arrow.FixedSizeListArray.from_arrays(arrow.array(rows.reshape(-1)), manifest.width),
            }
            writer.write_table(arrow.table(written, schema=schema))
            step.advance(len(found))
        return len(there)


def _left_rows(work: Workspace, manifest: Manifest, removed: np.ndarray) -> Iterator[Float32[np.ndarray, "rows width"]]:
    """The rows of the documents that are left, some at a time, in their order."""
    coder = None if manifest.rows.bits == 32 else Coder.load(work.coder)
    first = 0
    for segment in manifest.segments:
        rows = RowReader.open(ShardStore.open(work.segment(segment.folder).rows))
        for block in rows.blocks(ROWS_AT_ONCE):
            gone = removed[(removed >= first) & (removed < first + len(block))] - first
            first += len(block)
            kept = np.delete(block, gone, axis=0)
            yield kept if coder is None else coder.decode(kept)


def export_attributions(
    index: Index,
    queries: Sequence[Query],
    out: Path,
    *,
    top_k: int,
    score: ScoreKind = "relatif",
    progress: Progress | None = None,
) -> int:
    """Writes a line for each question, with its `top_k` proponents and opponents; returns how many."""
    with (
        replacing(out) as aside,
        aside.open("w", encoding="utf-8") as file,
        (progress or Silent()).step("questions", len(queries), "question") as step,
    ):
        for start in range(0, len(queries), QUESTIONS_AT_ONCE):
            part = queries[start : start + QUESTIONS_AT_ONCE]
            for line in _lines(index, part, top_k, score):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            step.advance(len(part))
    return len(queries)


def _lines(index: Index, queries: Sequence[Query], top_k: int, score: ScoreKind) -> Iterator[dict[str, Any]]:
    rows = index.rows([index.encode_truncated(query.prompt, query.response) for query in queries])
    signs: tuple[Sign, Sign] = ("positive", "negative")
    both = [index.search(rows, top_k=top_k, score=score, sign=sign) for sign in signs]
    for query, proponents, opponents in zip(queries, *both, strict=True):
        line: dict[str, Any] = {
            "example_id": query.id,
            "query_set": index.folder.name,
            "inputs_plaintext": query.prompt,
            "targets_plaintext": query.response,
        }
        for role, hits in (("proponent", proponents), ("opponent", opponents)):
            documents = index.documents.by_ordinal([hit.ordinal for hit in hits])
            line[f"{role}s"] = [document.text for document in documents]
            line[f"{role}_ids"] = [document.id for document in documents]
            line[f"{role}_scores"] = [hit.score for hit in hits]
        yield line
