"""Rows and attributions for other programs, and an index in numbers."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from headwater_indexer.append import append_documents
from headwater_indexer.build import build_index
from headwater_indexer.corpus import read_documents
from headwater_indexer.export import export_attributions, export_rows
from headwater_indexer.index import Index
from headwater_indexer.options import BuildOptions
from headwater_indexer.remove import Unwanted, remove_documents
from headwater_indexer.scores import Query
from headwater_indexer.stats import describe

KINDS = {"exact": BuildOptions(rank=4), "half": BuildOptions(rank=4, bits=16), "codes": BuildOptions(rank=4, bits=4)}
GONE = [7, 41, 99]
LEFT = np.setdiff1d(np.arange(120), GONE)


@pytest.fixture(scope="module", params=KINDS)
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path
) -> Path:
    """Of two segments, and of 120 documents less three."""
    made = tmp_path_factory.mktemp("export")
    lines = corpus_file.read_text().splitlines(keepends=True)
    (made / "a.jsonl").write_text("".join(lines[:80]))
    (made / "b.jsonl").write_text("".join(lines[80:]))
    build_index(str(checkpoint_folder), str(made / "a.jsonl"), made / "i", KINDS[request.param])
    append_documents(made / "i", [str(made / "b.jsonl")])
    remove_documents(made / "i", Unwanted(ids=[f"doc-{n:03d}" for n in GONE]))
    return made / "i"


def test_exported_rows_give_the_influence_that_the_index_gives(folder: Path, corpus_file: Path, tmp_path: Path) -> None:
    assert export_rows(folder, tmp_path / "rows.parquet") == len(LEFT)
    table = parquet.read_table(tmp_path / "rows.parquet")
    documents = list(read_documents(str(corpus_file)))
    assert table["id"].to_pylist() == [documents[n].id for n in LEFT]
    assert table["source"].to_pylist() == [documents[n].source for n in LEFT]
    assert [json.loads(one) for one in table["metadata"].to_pylist()] == [documents[n].metadata for n in LEFT]
    rows = np.array(table["row"].to_pylist(), dtype=np.float32)
    index = Index.open(folder, device="cpu")
    query = index.rows([index.encode("the river", " feeds the lake 3")])
    expected = index.influences(query)
    np.testing.assert_allclose(query @ rows.T, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())
    assert table["tokens"].to_pylist() == [
        sum(len(window.input_ids) for window in index.windows(n)) for n in range(len(LEFT))
    ]
    index.close()


def test_exported_attributions_have_the_fields_of_the_viewer(folder: Path, tmp_path: Path) -> None:
    index = Index.open(folder, device="cpu")
    asked = [
        Query(id="1", prompt="the river", response=" feeds the lake 3"),
        Query(id="2", prompt="", response="stone mill"),
    ]
    assert export_attributions(index, asked, tmp_path / "a.jsonl", top_k=4, score="influence") == 2
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    scores = index.influences(index.rows([index.encode_truncated(one.prompt, one.response) for one in asked]))
    every = list(index.documents)
    for line, query, own in zip(lines, asked, scores, strict=True):
        assert set(line) == {
            "example_id", "query_set", "inputs_plaintext", "targets_plaintext",
            "proponents", "proponent_ids", "proponent_scores", "opponents", "opponent_ids", "opponent_scores",
        }  # fmt: skip
        assert (line["example_id"], line["inputs_plaintext"], line["targets_plaintext"]) == (
            query.id, query.prompt, query.response,
        )  # fmt: skip
        for role, best in (("proponent", np.argsort(-own)[:4]), ("opponent", np.argsort(own)[:4])):
            assert line[f"{role}_ids"] == [every[n].id for n in best]
            assert line[f"{role}s"] == [every[n].text for n in best]
            np.testing.assert_allclose(line[f"{role}_scores"], own[best], rtol=1e-3)
    index.close()


def test_stats_count_what_is_left_and_what_is_on_the_disk(folder: Path) -> None:
    found, index = describe(folder), Index.open(folder, device="cpu")
    assert (found["documents"], found["removed_and_on_the_disk"], found["segments"]) == (117, 3, [80, 40])
    assert found["sources"]["largest"] == index.documents.sources()
    lengths = found["row_lengths"]
    assert lengths["50%"] == pytest.approx(float(np.median(index.norms)), rel=1e-4)
    assert (lengths["least"], lengths["greatest"]) == pytest.approx((index.norms.min(), index.norms.max()), rel=1e-4)
    parts = found["bytes"]
    assert parts["in all"] == sum(size for name, size in parts.items() if name != "in all") == index.manifest.bytes
    assert {"documents", "words", "rows", "projections", "Hessian", "removed"} <= set(parts)
    assert found["bytes_on_the_disk"] >= parts["in all"]
    index.close()
