"""Search against brute force, for each score and both ends of the ranking."""

from pathlib import Path

import numpy as np
import pytest

from headwater_indexer.errors import DataError, IndexDamaged
from headwater_indexer.search import FlatSearch, ScoreKind, Sign, write_flat_index

WIDTH, COUNT = 40, 300


def heavy_tailed_rows(seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((COUNT, WIDTH)) * draw.pareto(1.5, (COUNT, 1))
    rows[17] = 0  # a document without gradient
    return rows.astype(np.float32)


@pytest.fixture
def search(tmp_path: Path) -> FlatSearch:
    paths = tmp_path / "search.faiss", tmp_path / "norms.safetensors"
    write_flat_index(*paths, np.array_split(heavy_tailed_rows(), 7), WIDTH)
    return FlatSearch.open(*paths)


def brute_force(queries: np.ndarray, score: ScoreKind) -> np.ndarray:
    rows = heavy_tailed_rows().astype(np.float64)
    norms = np.linalg.norm(rows, axis=1)
    norms[norms == 0] = 1
    scores = queries.astype(np.float64) @ rows.T
    if score == "influence":
        return scores
    scores /= norms
    return scores if score == "relatif" else scores / np.linalg.norm(queries, axis=1, keepdims=True)


@pytest.mark.parametrize("score", ["relatif", "influence", "cosine"])
@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("top_k", [1, 10, COUNT])
def test_search_is_brute_force(search: FlatSearch, score: ScoreKind, sign: Sign, top_k: int) -> None:
    queries = np.random.default_rng(1).standard_normal((5, WIDTH)).astype(np.float32)
    expected = brute_force(queries, score)
    order = np.argsort(expected if sign == "negative" else -expected, axis=1)[:, :top_k]
    for hits, best, scores in zip(search(queries, top_k=top_k, score=score, sign=sign), order, expected, strict=True):
        assert [hit.ordinal for hit in hits] == best.tolist()
        assert np.allclose([hit.score for hit in hits], scores[best], rtol=1e-5, atol=1e-5)
        below = [100 * np.mean(scores < scores[document]) for document in best]
        assert np.allclose([hit.percentile for hit in hits], below)


@pytest.mark.parametrize("score", ["relatif", "influence", "cosine"])
@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("count", [0, 1, 7, COUNT])
def test_search_among_some_is_brute_force_over_them(
    search: FlatSearch, monkeypatch: pytest.MonkeyPatch, score: ScoreKind, sign: Sign, count: int
) -> None:
    monkeypatch.setattr("headwater_indexer.search.BLOCK_BYTES", 4 * WIDTH * 16)  # several blocks
    draw = np.random.default_rng(2)
    queries = draw.standard_normal((5, WIDTH)).astype(np.float32)
    among = np.sort(draw.choice(COUNT, count, replace=False))
    scores = brute_force(queries, score)[:, among]
    order = np.argsort(scores if sign == "negative" else -scores, axis=1)[:, :10]
    found = search(queries, top_k=10, score=score, sign=sign, among=among)
    for hits, best, all_scores in zip(found, order, scores, strict=True):
        assert [hit.ordinal for hit in hits] == among[best].tolist()
        assert np.allclose([hit.score for hit in hits], all_scores[best], rtol=1e-5, atol=1e-5)
        below = [100 * np.mean(all_scores < all_scores[place]) for place in best]
        assert np.allclose([hit.percentile for hit in hits], below)


def test_more_than_there_are_gives_all(search: FlatSearch) -> None:
    (hits,) = search(np.ones((1, WIDTH), dtype=np.float32), top_k=10_000, score="relatif", sign="positive")
    assert sorted(hit.ordinal for hit in hits) == list(range(COUNT))


def test_a_row_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    rows = heavy_tailed_rows()
    rows[250, 3] = np.inf
    with pytest.raises(DataError, match="row 250 is not finite"):
        write_flat_index(tmp_path / "a", tmp_path / "b", np.array_split(rows, 7), WIDTH)
    assert not list(tmp_path.iterdir())


def test_a_cut_file_is_refused_by_name(tmp_path: Path, search: FlatSearch) -> None:
    whole = (tmp_path / "search.faiss").read_bytes()
    (tmp_path / "search.faiss").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IndexDamaged, match=r"search\.faiss cannot be read"):
        FlatSearch.open(tmp_path / "search.faiss", tmp_path / "norms.safetensors")


def test_where_rows_are_searched_is_logged(
    tmp_path: Path, search: FlatSearch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "headwater.search"):
        FlatSearch.open(tmp_path / "search.faiss", tmp_path / "norms.safetensors")
    told = "exact search on the CPU: FAISS sees no GPU" if search.device == "cpu" else "GPU(s), in float16"
    assert told in caplog.text
