"""What was removed is never returned by any route, is erased by compact, and versions are gone back to."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headwater_indexer.append import append_documents
from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.baselines.matrix import bm25_scores
from headwater_indexer.build import build_index
from headwater_indexer.compact import compact
from headwater_indexer.conditions import parse_conditions
from headwater_indexer.errors import ConfigurationError, UsageError
from headwater_indexer.filters import AllOf
from headwater_indexer.index import Index, verify_index
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions
from headwater_indexer.remove import Unwanted, remove_documents
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.versions import history, roll_back
from headwater_indexer.workspace import Workspace, changing

KINDS = {
    "exact": BuildOptions(rank=6, embeddings=True, factors=True),
    "codes": BuildOptions(rank=6, bits=4, plan="two-stage"),
}
QUESTIONS = [("the river feeds", " the lake 3 and the mill crosses the stone"), ("", "the mill turns the stone 7")]
# By id, by source (source-2 are the numbers 2, 7, 12, ...), and by metadata.
UNWANTED = Unwanted(
    ids=["doc-000", "doc-049", "doc-050", "doc-119"],
    sources=["source-2"],
    where=parse_conditions(["metadata.number>=110"]),
)
GONE = sorted({0, 49, 50, 119, *range(2, 120, 5), *range(110, 120)})
LEFT = np.setdiff1d(np.arange(120), GONE)


@pytest.fixture(scope="module", params=KINDS)
def grown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path
) -> Path:
    """The folder of an index of two segments, of 70 and of 50 documents."""
    folder = tmp_path_factory.mktemp("life")
    lines = corpus_file.read_text().splitlines(keepends=True)
    for name, part in (("first", lines[:70]), ("second", lines[70:])):
        (folder / f"{name}.jsonl").write_text("".join(part))
    build_index(str(checkpoint_folder), str(folder / "first.jsonl"), folder / "i", KINDS[request.param])
    append_documents(folder / "i", [str(folder / "second.jsonl")])
    return folder / "i"


@pytest.fixture
def folder(grown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown, tmp_path / "i"))


@pytest.fixture
def opened() -> Callable[[Path], Index]:
    made: list[Index] = []

    def open_index(folder: Path) -> Index:
        made.append(Index.open(folder, device="cpu", loaded=[index.checkpoint for index in made]))
        return made[-1]

    yield open_index
    for index in made:
        index.close()


def test_no_route_returns_what_was_removed(folder: Path, opened: Callable[[Path], Index]) -> None:
    before = opened(folder)
    rows = before.rows([before.encode(*question) for question in QUESTIONS])
    every, documents = before.influences(rows), list(before.documents)
    manifest = remove_documents(folder, UNWANTED)
    index = opened(folder)
    gone, left = [documents[n].id for n in GONE], [documents[n] for n in LEFT]
    assert manifest.documents == len(index.documents) == len(index.norms) == len(LEFT)
    assert manifest.tokens == sum(before.documents.stores[n // 70].counted([n % 70])[1] for n in LEFT.tolist())
    assert list(index.documents) == index.documents.by_ordinal(range(len(LEFT))) == left
    assert [index.documents.by_id(document_id) for document_id in gone] == [None] * len(GONE)
    assert index.documents.ordinals(gone) == [None] * len(GONE)
    assert index.documents.ordinals([document.id for document in left]) == list(range(len(LEFT)))
    assert "source-2" not in index.documents.sources()
    assert sum(index.documents.sources().values()) == len(LEFT)
    assert index.documents.matching(AllOf(())).tolist() == list(range(len(LEFT)))
    numbers = index.documents.matching(parse_conditions(["metadata.number>100", "source!=source-1"]))
    assert [left[n].metadata["number"] for n in numbers] == [n for n in LEFT if n > 100 and n % 5 != 1]
    np.testing.assert_allclose(index.norms, before.norms[LEFT])
    np.testing.assert_array_equal(index.influences(rows), every[:, LEFT])
    np.testing.assert_allclose(
        index.baseline("bm25", QUESTIONS), bm25_scores(FullText.in_memory(left), QUESTIONS), rtol=1e-5
    )
    if index.can_rescore:
        assert index.baseline("hidden-states", QUESTIONS).shape == (2, len(LEFT))
        pair = index.encode(*QUESTIONS[0])
        [again], [whole] = index.rescore([pair], None), before.rescore([pair], None)
        np.testing.assert_allclose(again, whole[LEFT], rtol=1e-3, atol=1e-5 * abs(whole).max())


@pytest.mark.parametrize("score", ["relatif", "influence", "cosine"])
@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_a_search_after_removal_and_after_compact_is_brute_force_over_what_is_left(
    folder: Path, opened: Callable[[Path], Index], score: str, sign: str
) -> None:
    before = opened(folder)
    rows = before.rows([before.encode(*question) for question in QUESTIONS])
    lengths = np.ones(120) if score == "influence" else before.norms
    scores = (before.influences(rows) / lengths)[:, LEFT]
    if score == "cosine":
        scores = scores / np.linalg.norm(rows, axis=1, keepdims=True)
    remove_documents(folder, UNWANTED)
    removed = opened(folder)
    compact(folder)
    compacted = opened(folder)
    some = np.array([1, 33, 60, 61, len(LEFT) - 1])
    for index in (removed, compacted):
        for top_k, among in ((120, None), (5, None), (3, some)):
            found = index.search(rows, top_k=top_k, score=score, sign=sign, among=among)  # type: ignore[arg-type]
            searched = np.arange(len(LEFT)) if among is None else among
            for hits, every in zip(found, scores, strict=True):
                own = every[searched]
                best = searched[np.argsort(own if sign == "negative" else -own, kind="stable")[:top_k]]
                assert [hit.ordinal for hit in hits] == best.tolist()
                np.testing.assert_allclose([h.score for h in hits], every[best], rtol=1e-4, atol=1e-5 * abs(own).max())
                np.testing.assert_allclose([h.percentile for h in hits], [100 * np.mean(own < every[n]) for n in best])


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def records(folder: Path) -> list[bytes]:
    """What is stored of each document's row, in the order of the corpus."""
    parts = [Workspace(folder).segment(segment.folder) for segment in Manifest.read(folder).segments]
    return [row.tobytes() for part in parts for shard in ShardStore.open(part.rows) for row in shard]


def test_compact_erases_rows_and_texts_and_changes_nothing_else(
    folder: Path, corpus_file: Path, opened: Callable[[Path], Index]
) -> None:
    texts = [json.loads(line)["text"].encode() for line in corpus_file.read_text().splitlines()]
    rows = records(folder)
    compacted_before = opened(folder)
    remove_documents(folder, UNWANTED)
    index = opened(folder)
    questions = index.rows([index.encode(*question) for question in QUESTIONS])
    influences, hits = index.influences(questions), index.search(questions, top_k=10)
    on_disk = everything(folder)
    assert all(texts[n] in on_disk and rows[n] in on_disk for n in range(120))  # else nothing is shown below
    made = compact(folder)
    on_disk = everything(folder)
    for n in range(120):
        assert ((texts[n] in on_disk), (rows[n] in on_disk)) == ((n in LEFT),) * 2, n
    assert (len(made.segments), made.removed, made.documents) == (1, None, len(LEFT))
    assert made.fitted_on == np.sum(LEFT < 70)
    assert made.summary["share_added_since_it_was_fitted"] == pytest.approx(np.mean(LEFT >= 70), abs=1e-4)
    assert verify_index(folder) == made
    assert [manifest.number for manifest in history(folder)] == [made.number]
    named = {folder / file.path for file in made.files} | {folder / "manifest.json"}
    assert {path for path in folder.rglob("*") if path.is_file()} == named
    after = opened(folder)
    # A product of matrices may sum in another order where two segments have become one.
    np.testing.assert_allclose(after.influences(questions), influences, rtol=1e-5, atol=1e-5)
    found = after.search(questions, top_k=10)
    assert [[hit.ordinal for hit in one] for one in found] == [[hit.ordinal for hit in one] for one in hits]
    assert list(after.documents) == list(index.documents)
    # Those that were open before go on as they were, although their files are gone.
    assert compacted_before.documents.matching(parse_conditions(["source=source-2"])).tolist() == list(range(2, 120, 5))
    assert len(compacted_before.search(questions, top_k=120)[0]) == 120
    assert compacted_before.baseline("bm25", QUESTIONS).shape == (2, 120)
    assert index.documents.matching(parse_conditions(["source=source-2"])).tolist() == []
    if index.can_rescore:
        assert index.baseline("hidden-states", QUESTIONS).shape == (2, len(LEFT))
        assert index.explain(index.encode(*QUESTIONS[0]), [0])[0].ordinal == 0


def test_versions_are_kept_and_gone_back_to(folder: Path, opened: Callable[[Path], Index]) -> None:
    first = remove_documents(folder, Unwanted(ids=["doc-001"]))
    second = remove_documents(folder, Unwanted(ids=["doc-002", "doc-090"]))
    assert (first.number, second.number, second.documents) == (3, 4, 117)
    with pytest.raises(UsageError, match=r"would bring back documents that were removed since \(2\): add --restore"):
        roll_back(folder, None)
    back = roll_back(folder, 3, restore_removed=True)
    assert (back.number, back.change, back.documents) == (5, "rollback", 119)
    assert verify_index(folder) == back
    assert [(manifest.number, manifest.documents) for manifest in history(folder)] == [
        (2, 120),
        (3, 119),
        (4, 117),
        (5, 119),
    ]
    with pytest.raises(UsageError, match=r"keeps no version 1 to go back to \(kept: 2, 3, 4\)"):
        roll_back(folder, 1)
    index = opened(folder)
    assert index.documents.by_id("doc-001") is None
    assert index.documents.by_id("doc-002") is not None


def test_a_version_without_an_append_may_be_gone_back_to_and_its_files_go_when_no_version_names_them(
    folder: Path,
) -> None:
    remove_documents(folder, Unwanted(ids=["doc-001"]))
    assert (folder / "segments" / "0002").exists()
    back = roll_back(folder, 1, restore_removed=True)
    assert back.documents == 70
    assert (folder / "segments" / "0002").exists()  # for versions 2 and 3
    remove_documents(folder, Unwanted(ids=["doc-002"]), keep=0)
    assert not (folder / "segments" / "0002").exists()
    assert verify_index(folder).documents == 69


def test_a_removed_document_may_come_again(folder: Path, corpus_file: Path, tmp_path: Path) -> None:
    remove_documents(folder, Unwanted(ids=["doc-003"]))
    (tmp_path / "again.jsonl").write_text('{"id": "doc-003", "text": "another text of the river"}\n')
    append_documents(folder, [str(tmp_path / "again.jsonl")])
    index = Index.open(folder, device="cpu")
    found = index.documents.by_id("doc-003")
    assert found is not None
    assert found.text == "another text of the river"
    assert index.documents.ordinals(["doc-003"]) == [119]
    index.close()


def test_removals_that_cannot_be(folder: Path) -> None:
    before = Manifest.read(folder)
    for unwanted, message in (
        (Unwanted(ids=["doc-001", "doc-777", "doc-778"]), r"no document 'doc-777' \(and 1 more"),
        (Unwanted(sources=["source-9"]), "no source 'source-9': leave it out, or add --missing-ok; nothing was"),
        (Unwanted(where=AllOf(())), "would leave no document"),
    ):
        with pytest.raises(UsageError, match=message):
            remove_documents(folder, unwanted)
    assert remove_documents(folder, Unwanted(ids=["doc-777"], may_be_missing=True)) == before
    assert Manifest.read(folder) == before


def test_one_change_at_a_time(folder: Path) -> None:
    with changing(folder):
        for change in (
            lambda: remove_documents(folder, Unwanted(ids=["doc-001"])),
            lambda: append_documents(folder, ["nothing.jsonl"]),
            lambda: compact(folder),
            lambda: roll_back(folder, 1),
        ):
            with pytest.raises(ConfigurationError, match="another build or change is at work in"):
                change()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("metadata.n=3", [3]),
        ('metadata.n="3"', []),
        ("metadata.n != 3", [0, 1, 2, 4]),
        ("metadata.n<=1", [0, 1]),
        ("source=b", [1, 3]),
        ("document_id > c", [3, 4]),
        ("metadata.deep.er=true", [2]),
        ("metadata.name=a=b", [4]),
    ],
)
def test_conditions_as_they_are_written(text: str, numbers: list[int], tmp_path: Path) -> None:
    from headwater_indexer.corpus import Document
    from headwater_indexer.documents import DocumentStore, DocumentWriter

    more = {2: {"deep": {"er": True}}, 4: {"name": "a=b"}}
    with DocumentWriter(tmp_path / "d") as writer:
        for n, name in enumerate(["a", "b", "c", "d", "e"]):
            document = Document(id=name, text="x", source="ab"[n % 2], metadata={"n": n} | more.get(n, {}))
            writer.add(document, windows=1, tokens=1)
    with DocumentStore(tmp_path / "d") as store:
        assert store.matching(parse_conditions([text])).tolist() == numbers


@pytest.mark.parametrize("text", ["n=3", "metadata.=3", "metadata.n", "", "metadata.n<true"])
def test_conditions_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--where"):
        parse_conditions([text])
