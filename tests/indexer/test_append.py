"""Documents that were added later are found as if they had been there from the first: by every route."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headwater_indexer.append import append_documents
from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.baselines.matrix import bm25_scores
from headwater_indexer.build import build_index
from headwater_indexer.build_steps import BuildSteps
from headwater_indexer.codes.coder import Coder
from headwater_indexer.corpus import read_documents
from headwater_indexer.errors import ConfigurationError, CorpusError
from headwater_indexer.filters import Between, OneOf
from headwater_indexer.index import Index, Pair, verify_index
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions
from headwater_indexer.search import ScoreKind, Sign
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.windows import Window
from headwater_indexer.workspace import Workspace

KINDS = {"exact": BuildOptions(rank=6, embeddings=True, factors=True), "codes": BuildOptions(rank=6, bits=4)}
QUESTION = ("the river feeds", " the lake 3 and the mill crosses the stone")


def part_of(corpus: Path, out: Path, first: int, stop: int) -> Path:
    out.write_text("".join(f"{line}\n" for line in corpus.read_text().splitlines()[first:stop]))
    return out


@pytest.fixture(scope="module", params=KINDS)
def grown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path
) -> Iterator[Index]:
    """An index of three segments: the first 50 documents of the corpus, 40 more, and the last 30."""
    folder = tmp_path_factory.mktemp("grown")
    parts = [part_of(corpus_file, folder / f"{a}.jsonl", a, b) for a, b in ((0, 50), (50, 90), (90, 120))]
    build_index(str(checkpoint_folder), str(parts[0]), folder / "index", KINDS[request.param])
    for part in parts[1:]:
        append_documents(folder / "index", [str(part)])
    index = Index.open(folder / "index")
    yield index
    index.close()


def stored(index: Index, rows: np.ndarray) -> np.ndarray:
    """The influence of all documents on the questions, from what is on the disk alone."""
    parts = [Workspace(index.folder).segment(segment.folder) for segment in index.manifest.segments]
    records = np.concatenate([shard for part in parts for shard in ShardStore.open(part.rows)])
    if index.manifest.rows.bits == 32:
        return np.asarray(rows @ records.T)
    return Coder.load(parts[0].coder).scorer(rows)(records)


def own_rows(index: Index) -> np.ndarray:
    """The rows of all documents, captured anew one by one."""
    pairs = [[_pair(window) for window in index.windows(ordinal)] for ordinal in range(len(index.documents))]
    return np.stack([index.rows(own).sum(0) for own in pairs])


def _pair(window: Window) -> Pair:
    return Pair(input_ids=tuple(window.input_ids.tolist()), prompt_tokens=0, response_tokens=len(window.input_ids))


@pytest.mark.parametrize("score", ["relatif", "influence", "cosine"])
@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_a_search_over_segments_is_brute_force_over_all_rows(grown: Index, score: ScoreKind, sign: Sign) -> None:
    rows = grown.rows([grown.encode(*QUESTION), grown.encode("", "the mill turns the stone")])
    lengths = np.ones(120) if score == "influence" else np.linalg.norm(own_rows(grown), axis=1)
    scores = stored(grown, rows) / lengths
    if score == "cosine":
        scores /= np.linalg.norm(rows, axis=1, keepdims=True)
    some = np.array([3, 49, 50, 77, 89, 90, 119])
    for top_k, among in ((120, None), (7, None), (1, None), (5, some)):
        searched = np.arange(120) if among is None else among
        found = grown.search(rows, top_k=top_k, score=score, sign=sign, among=among)
        for hits, every in zip(found, scores, strict=True):
            own = every[searched]
            best = searched[np.argsort(own if sign == "negative" else -own, kind="stable")[:top_k]]
            assert [hit.ordinal for hit in hits] == best.tolist()
            np.testing.assert_allclose([hit.score for hit in hits], every[best], rtol=1e-4, atol=1e-5 * abs(own).max())
            below = [100 * np.mean(own < every[ordinal]) for ordinal in best]
            np.testing.assert_allclose([hit.percentile for hit in hits], below)


def test_added_documents_are_seen_through_what_was_fitted_to_the_first(grown: Index) -> None:
    rows, own = grown.rows([grown.encode(*QUESTION)]), own_rows(grown)
    expected = (rows @ own.T)[0]
    found = grown.influences(rows)[0]
    np.testing.assert_allclose(grown.norms, np.linalg.norm(own, axis=1), rtol=1e-3)
    if grown.manifest.rows.bits == 32:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())
    for part in (slice(0, 50), slice(50, 120)):  # codes tell as much of later documents as of the first
        assert np.corrcoef(found[part], expected[part])[0, 1] > 0.98
    some = np.array([119, 3, 60, 50])
    np.testing.assert_allclose(grown.influences(rows, some)[0], found[some], rtol=1e-4, atol=1e-6 * abs(found).max())
    assert grown.manifest.fitted_on == 50


def test_every_other_route_sees_all_segments(grown: Index, corpus_file: Path) -> None:
    documents = list(read_documents(str(corpus_file)))
    questions = [QUESTION, ("", "stone stone mill 7")]
    np.testing.assert_allclose(
        grown.baseline("bm25", questions), bm25_scores(FullText.in_memory(documents), questions), rtol=1e-5
    )
    assert list(grown.documents) == documents
    assert grown.documents.by_ordinal([119, 0, 50, 50]) == [documents[n] for n in (119, 0, 50, 50)]
    assert grown.documents.by_id("doc-095") == documents[95]
    assert grown.documents.by_id("doc-950") is None
    assert grown.documents.ordinals(["doc-119", "doc-050", "no", "doc-000"]) == [119, 50, None, 0]
    assert grown.documents.sources() == {f"source-{n}": 24 for n in range(5)}
    by_source = grown.documents.matching(OneOf(("source",), ("source-3",)))
    assert by_source.tolist() == list(range(3, 120, 5))
    by_number = grown.documents.matching(Between(("metadata", "number"), (("gte", 45), ("lt", 95))))
    assert by_number.tolist() == list(range(45, 95))
    with pytest.raises(IndexError, match="no document 120"):
        grown.documents.by_ordinal([120])
    assert (grown.manifest.documents, len(grown.documents), len(grown.norms)) == (120, 120, 120)


def test_hidden_states_and_rescoring_see_all_segments(grown: Index) -> None:
    if not grown.can_rescore:
        with pytest.raises(ConfigurationError, match="without --embeddings"):
            grown.baseline("hidden-states", [QUESTION])
        return
    texts = [document.text for document in grown.documents.by_ordinal([20, 70, 110])]
    scores = grown.baseline("hidden-states", [("", text) for text in texts])
    assert np.argmax(scores, axis=1).tolist() == [20, 70, 110]
    pair = grown.encode(*QUESTION)
    [every] = grown.rescore([pair], None)
    [some] = grown.rescore([pair], [[110, 3, 60]])
    np.testing.assert_allclose(some, every[[110, 3, 60]], rtol=1e-3)
    assert grown.explain(pair, [95])[0].score == pytest.approx(every[95], rel=1e-3)


@pytest.fixture
def built(tmp_path: Path, checkpoint_folder: Path, corpus_file: Path) -> Path:
    first = part_of(corpus_file, tmp_path / "first.jsonl", 0, 20)
    build_index(str(checkpoint_folder), str(first), tmp_path / "i", BuildOptions(rank=3))
    return tmp_path / "i"


def test_an_append_that_is_done_is_not_done_again(built: Path, corpus_file: Path, tmp_path: Path) -> None:
    more = part_of(corpus_file, tmp_path / "more.jsonl", 20, 30)
    made = append_documents(built, [str(more)])
    assert (made.number, made.documents, made.change) == (2, 30, "append")
    assert append_documents(built, [str(more)]) == made == verify_index(built)
    assert not list(built.rglob("build.json"))


def test_an_id_that_is_there_is_refused_and_nothing_changes(built: Path, corpus_file: Path, tmp_path: Path) -> None:
    before = Manifest.read(built)
    twice = part_of(corpus_file, tmp_path / "twice.jsonl", 15, 25)
    with pytest.raises(CorpusError, match=r"the id 'doc-015' is in .* already"):
        append_documents(built, [str(twice)])
    assert verify_index(built) == before
    more = part_of(corpus_file, tmp_path / "more.jsonl", 20, 25)
    assert (
        append_documents(
            built, [str(more), str(part_of(corpus_file, tmp_path / "c", 25, 30).rename(tmp_path / "c.jsonl"))]
        ).documents
        == 30
    )


def test_another_unfinished_append_is_not_dropped_unasked(
    built: Path, corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = part_of(corpus_file, tmp_path / "b.jsonl", 20, 30)
    other = part_of(corpus_file, tmp_path / "c.jsonl", 30, 40)
    with monkeypatch.context() as broken:
        broken.setattr(BuildSteps, "index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            append_documents(built, [str(first)])
    with pytest.raises(ConfigurationError, match=r"unfinished append of other documents.*--overwrite"):
        append_documents(built, [str(other)])
    assert append_documents(built, [str(first)]).documents == 30
    assert json.loads((built / "manifest.json").read_text())["number"] == 2
