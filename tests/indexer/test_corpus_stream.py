"""Corpora are read as a stream: nothing that grows with the corpus is held."""

import gzip
import json
import os
import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from threading import Thread

import pyarrow
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from headwater_indexer.corpus import Document, read_documents

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=512).filter(str.strip)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=5)
TAKEN = {"id", "text", "source", "prompt", "response"}
RECORDS = st.builds(
    Document,
    id=IDS,
    text=TEXTS,
    source=st.none() | TEXTS,
    metadata=st.dictionaries(TEXTS.filter(lambda name: name not in TAKEN), VALUES, max_size=3),
    prompt=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)


def lines(numbers: Iterable[int]) -> Iterable[bytes]:
    return (json.dumps({"id": number, "text": f"{number} " + "river " * 510}).encode() + b"\n" for number in numbers)


def rows(number: int) -> Iterable[bytes]:
    return (b"id,text\n", *(f"{index},{'river ' * 510}\n".encode() for index in range(number)))


def peak_while_reading(path: Path, expected: int) -> int:
    """Bytes at the highest point, while all documents are read and dropped."""
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_documents(str(path))) == expected
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_documents_come_while_the_file_is_still_being_written(tmp_path: Path) -> None:
    endless = tmp_path / "endless.jsonl"
    os.mkfifo(endless)

    def write() -> None:
        with suppress(BrokenPipeError), endless.open("wb", buffering=0) as file:
            for line in lines(count()):
                file.write(line)

    writer = Thread(target=write, daemon=True)
    writer.start()
    documents = read_documents(str(endless))
    assert [one.id for one in islice(documents, 1000)] == [str(number) for number in range(1000)]
    documents.close()  # type: ignore[attr-defined]
    writer.join(timeout=10)
    assert not writer.is_alive()


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    number, path = 10_000, tmp_path / f"large{suffix}"
    data = b"".join(rows(number) if suffix == ".csv" else lines(range(number)))
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(data))
    assert len(data) > 30_000_000
    del data
    assert peak_while_reading(path, number) < 8_000_000


def test_one_row_group_of_parquet_is_not_held_whole(tmp_path: Path) -> None:
    number, path = 30_000, tmp_path / "large.parquet"
    texts = [f"{index} " + os.urandom(500).hex() for index in range(number)]
    parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=number)
    del texts
    before, highest = pyarrow.total_allocated_bytes(), 0
    for _ in read_documents(str(path)):
        highest = max(highest, pyarrow.total_allocated_bytes() - before)
    assert path.stat().st_size > 16_000_000
    assert 0 < highest < 8_000_000


@settings(deadline=None, max_examples=60)
@given(documents=st.lists(RECORDS, min_size=1, max_size=4), escaped=st.booleans())
def test_what_is_written_as_json_lines_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, documents: list[Document], escaped: bool
) -> None:
    path = tmp_path_factory.mktemp("round") / "trip.jsonl"
    path.write_text("".join(as_line(one, escaped) for one in documents), encoding="utf-8", newline="")
    assert list(read_documents(str(path))) == documents


def as_line(document: Document, escaped: bool) -> str:
    trained = {"text": document.text}
    if document.prompt is not None:
        trained = {"prompt": document.prompt, "response": document.text}
    record = {"id": document.id, "source": document.source, **trained, **document.metadata}
    return json.dumps(record, ensure_ascii=escaped) + "\n"
