"""What is added to the document store is read back: by ordinal, by id, by many threads, and after a reopening."""

import re
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_indexer.corpus import Document
from headwater_indexer.documents import DocumentStore, DocumentWriter
from headwater_indexer.errors import CorpusError, IndexDamaged, StorageError

NAME = "documents.sqlite"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=5)
RECORDS = st.builds(
    Document,
    id=TEXTS,
    text=TEXTS,
    source=st.none() | TEXTS,
    metadata=st.dictionaries(TEXTS, VALUES, max_size=3),
    prompt=st.none() | TEXTS,
)


def numbered(number: int) -> Document:
    source = None if number % 5 == 0 else f"source {number % 2}"
    return Document(id=f"é{number}", text=f"text {number} 🌊", source=source, metadata={"n": number})


def write(path: Path, documents: Sequence[Document]) -> Path:
    with DocumentWriter(path) as writer:
        for document in documents:
            writer.add(document, windows=2, tokens=len(document.text))
    return path


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    return write(tmp_path / NAME, [numbered(number) for number in range(100)])


@settings(deadline=None, max_examples=60)
@given(documents=st.lists(RECORDS, max_size=5, unique_by=lambda one: one.id))
def test_documents_come_back_as_they_were_added(
    tmp_path_factory: pytest.TempPathFactory, documents: list[Document]
) -> None:
    path = tmp_path_factory.mktemp("store") / NAME
    with DocumentWriter(path, commit_every=2) as writer:
        assert [writer.add(one, windows=1, tokens=3) for one in documents] == list(range(len(documents)))
        assert all(writer.matches(ordinal, one) for ordinal, one in enumerate(documents))
    with DocumentStore(path) as store:
        assert list(store) == documents
        assert list(store.ids()) == [one.id for one in documents]
        assert [store.by_id(one.id) for one in documents] == documents
        assert (len(store), store.windows(), store.tokens()) == (len(documents), len(documents), 3 * len(documents))


def test_documents_are_given_in_the_order_asked(hundred: Path) -> None:
    with DocumentStore(hundred) as store:
        assert store.by_ordinal([7, 99, 0, 7]) == [numbered(7), numbered(99), numbered(0), numbered(7)]
        assert store.by_ordinal([]) == []
        assert store.by_id("nobody") is None
        for ordinal in (100, -1):
            with pytest.raises(IndexError, match=f"there is no document {ordinal}: the index has 100, counted from 0"):
                store.by_ordinal([0, ordinal])


def test_totals_sources_and_ranges_of_ids(hundred: Path) -> None:
    with DocumentStore(hundred) as store:
        assert len(store) == 100
        assert store.windows() == 200
        assert store.tokens() == sum(len(numbered(number).text) for number in range(100))
        assert store.sources() == {"source 0": 40, "source 1": 40}
        assert list(store.ids(3, 5)) == ["é3", "é4"]
        assert list(store.ids(98)) == ["é98", "é99"]
        assert list(store.ids(98, 1000)) == ["é98", "é99"]
        assert list(store.ids(50, 50)) == []


def test_iteration_goes_on_over_pages(tmp_path: Path) -> None:
    documents = [numbered(number) for number in range(2_501)]
    with DocumentStore(write(tmp_path / NAME, documents)) as store:
        assert list(store) == documents


def test_many_threads_read_one_store(hundred: Path) -> None:
    def read(thread: int) -> bool:
        wanted = [(thread * 31 + step * 7) % 100 for step in range(50)]
        right = store.by_ordinal(wanted) == [numbered(number) for number in wanted]
        return right and store.by_id(f"é{thread}") == numbered(thread) and len(list(store.ids())) == 100

    with DocumentStore(hundred) as store, ThreadPoolExecutor(16) as threads:
        assert all(threads.map(read, range(64)))


def test_the_finished_file_stands_alone_and_is_not_changed_by_reading(hundred: Path) -> None:
    before = hundred.read_bytes()
    hundred.chmod(0o400)
    hundred.parent.chmod(0o500)
    try:
        with DocumentStore(hundred) as store:
            assert len(list(store)) == 100
            assert [path.name for path in hundred.parent.iterdir()] == [NAME]
    finally:
        hundred.parent.chmod(0o700)
    assert hundred.read_bytes() == before


def test_a_path_with_signs_that_mean_something_in_a_uri(tmp_path: Path) -> None:
    (tmp_path / "a ?b#c%20").mkdir()
    with DocumentStore(write(tmp_path / "a ?b#c%20" / NAME, [numbered(1)])) as store:
        assert list(store) == [numbered(1)]


def test_a_writer_goes_on_where_another_stopped(hundred: Path) -> None:
    with DocumentWriter(hundred) as writer:
        assert len(writer) == 100
        assert writer.matches(99, numbered(99))
        assert not writer.matches(99, numbered(98))
        assert not writer.matches(100, numbered(100))
        assert writer.add(numbered(100), windows=1, tokens=1) == 100
    with DocumentStore(hundred) as store:
        assert list(store) == [numbered(number) for number in range(101)]


@pytest.mark.parametrize("change", ["id", "text", "source", "prompt", "metadata"])
def test_a_document_that_has_changed_does_not_match(tmp_path: Path, change: str) -> None:
    changed = replace(numbered(1), **{change: {"n": 2} if change == "metadata" else "other"})
    with DocumentWriter(tmp_path / NAME) as writer:
        writer.add(numbered(1), windows=1, tokens=1)
        assert not writer.matches(0, changed)


def test_the_same_id_twice_is_refused_and_named(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path / NAME) as writer:
        for number in range(3):
            writer.add(numbered(number), windows=1, tokens=1)
        with pytest.raises(CorpusError, match="the id 'é1' is given twice: to documents 1 and 3, counted from 0"):
            writer.add(numbered(1), windows=1, tokens=1)
        assert writer.add(numbered(3), windows=1, tokens=1) == 3
    with DocumentStore(tmp_path / NAME) as store:
        assert list(store) == [numbered(number) for number in range(4)]


def test_a_document_that_cannot_be_stored_leaves_no_half(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path / NAME, commit_every=1) as writer:
        writer.add(numbered(0), windows=1, tokens=1)
        with pytest.raises(UnicodeEncodeError):
            writer.add(replace(numbered(1), text="\ud800"), windows=1, tokens=1)
        assert writer.add(numbered(2), windows=1, tokens=1) == 1
    with DocumentStore(tmp_path / NAME) as store:
        assert list(store) == [numbered(0), numbered(2)]


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


def change(statement: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(statement)
        connection.close()

    return run


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "there is no such file. Build the index again"),
    "empty": (lambda path: overwrite(path, b""), "an SQLite file, but not one of documents"),
    "not sqlite": (lambda path: overwrite(path, b"x" * 5000), r"damaged \(file is not a database\)"),
    "half": (truncate, r"damaged \(database disk image is malformed\)"),
    "scribbled": (scribble, r"damaged \(database disk image is malformed\)"),
    "newer": (change("PRAGMA user_version = 9"), "written in format 9; this version reads format 2"),
    "foreign": (change("PRAGMA application_id = 5"), "an SQLite file, but not one of documents"),
    "row": (change("DELETE FROM texts WHERE ordinal = 70"), "document 70 is missing. Build the index again"),
    "metadata": (change("UPDATE texts SET metadata = '{' WHERE ordinal = 70"), "metadata of document 70 is damaged"),
    "encoding": (change("UPDATE texts SET text = CAST(x'ff' AS TEXT) WHERE ordinal = 70"), "Could not decode to UTF-8"),
    "log": (lambda path: overwrite(path.with_name(f"{NAME}-wal"), b""), "the build that writes it has not finished"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_named(hundred: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(hundred)
    with pytest.raises(IndexDamaged, match=f"^{re.escape(str(hundred))}.*{message}"), DocumentStore(hundred) as store:
        store.by_ordinal(range(100))


@pytest.mark.parametrize("name", ["not sqlite", "scribbled", "newer", "foreign"])
def test_a_writer_does_not_touch_a_file_of_another_kind(hundred: Path, name: str) -> None:
    damage, _ = DAMAGES[name]
    damage(hundred)
    with pytest.raises(IndexDamaged, match=f"^{re.escape(str(hundred))}"):
        DocumentWriter(hundred)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be written .*: its folder is missing or not yours"):
        DocumentWriter(tmp_path / "missing" / NAME)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path / NAME), pytest.raises(StorageError, match="another build is writing to it: wait"):
        DocumentWriter(tmp_path / NAME)
