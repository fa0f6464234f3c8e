"""Every format gives the same five documents back; records become documents by their fields."""

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import datasets
import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from headwater_indexer.corpus import Document, Fields, read_documents

FIVE = [
    Document(id="plain", text="The river feeds the mill.\nTwice.", source="notes", metadata={"year": "1907"}),
    Document(id="ünïcode", text="Größe, naïve, e\u0301, \u2028 and \x00", source="notes", metadata={"year": ""}),
    Document(id="emoji 👩‍🚀", text="A flag 🇳🇱 and a family 👨‍👩‍👧‍👦", source="emoji", metadata={"year": "🗓"}),
    Document(id="rtl", text="مرحبا بالعالم, שלום", source="rtl", metadata={"year": "١٩٠٧"}),
    Document(id="quotes", text='He said "no, never",\r\nand left.', source="rtl", metadata={"year": "a,b"}),
]
ROWS = [{"id": one.id, "text": one.text, "source": one.source, **one.metadata} for one in FIVE]


def documents(location: Path, fields: Fields | None = None, **options: str) -> list[Document]:
    return list(read_documents(str(location), fields or Fields(), **options))


def write_jsonl(path: Path, rows: list[dict[str, object]] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows or ROWS), encoding="utf-8")
    return path


def write_csv(path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(ROWS[0]))
        table.writeheader()
        table.writerows(ROWS)
    return path


def write_gz(path: Path, plain: Path) -> Path:
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def write_zst(path: Path, plain: Path) -> Path:
    first, second = plain.read_bytes()[:100], plain.read_bytes()[100:]
    path.write_bytes(zstandard.compress(first) + zstandard.compress(second))  # two frames, as pzstd writes them
    return path


def write_parquet(path: Path, rows: list[dict[str, object]] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows or ROWS), path, row_group_size=2)
    return path


def write_shards(folder: Path, write: Callable[..., Path], suffix: str) -> Path:
    write(folder / "a" / f"part{suffix}", ROWS[:2])
    write(folder / "b" / f"part{suffix}", ROWS[2:])
    (folder / "README.md").write_text("about these files")
    return folder


def write_saved(folder: Path, *, splits: bool = False) -> Path:
    one = datasets.Dataset.from_list(ROWS)
    (datasets.DatasetDict({"train": one, "test": one.select([0])}) if splits else one).save_to_disk(str(folder))
    return folder


FORMATS: dict[str, Callable[[Path], Path]] = {
    "jsonl": lambda folder: write_jsonl(folder / "c.jsonl"),
    "ndjson": lambda folder: write_jsonl(folder / "c.ndjson"),
    "jsonl.gz": lambda folder: write_gz(folder / "c.jsonl.gz", write_jsonl(folder / "plain")),
    "jsonl.zst": lambda folder: write_zst(folder / "c.jsonl.zst", write_jsonl(folder / "plain")),
    "csv": lambda folder: write_csv(folder / "c.csv"),
    "csv.gz": lambda folder: write_gz(folder / "c.csv.gz", write_csv(folder / "plain")),
    "parquet": lambda folder: write_parquet(folder / "c.parquet"),
    "folder of parquet": lambda folder: write_shards(folder / "shards", write_parquet, ".parquet"),
    "folder of jsonl": lambda folder: write_shards(folder / "shards", write_jsonl, ".jsonl"),
    "saved dataset": lambda folder: write_saved(folder / "saved"),
    "saved splits": lambda folder: write_saved(folder / "saved", splits=True),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    assert documents(FORMATS[name](tmp_path)) == FIVE


def test_a_saved_dataset_is_read_by_split(tmp_path: Path) -> None:
    assert documents(write_saved(tmp_path / "saved", splits=True), split="test") == FIVE[:1]


def test_a_folder_of_text_files_is_read_in_order_with_paths_as_ids(tmp_path: Path) -> None:
    for name in ["z.txt", "a.md", "deep/er/b.txt", ".hidden.txt", ".git/c.txt", "picture.png"]:
        (tmp_path / "library" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "library" / name).write_text(f"text of {name}\r\n", encoding="utf-8-sig", newline="")
    read = documents(tmp_path / "library")
    assert [(one.id, one.source) for one in read] == [
        ("a.md", "library"),
        ("z.txt", "library"),
        ("deep/er/b.txt", "deep/er"),
    ]
    assert read[0].text == "text of a.md\r\n"


def test_one_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text("roses")
    source = tmp_path.name
    assert documents(tmp_path / "poem.txt") == [Document(id="poem.txt", text="roses", source=source, metadata={})]


def test_a_dataset_named_as_on_the_hub_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` itself takes a folder in the working directory for the hub's, so no connection is needed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "owner" / "name" / "train.jsonl")
    assert documents(Path("owner/name")) == FIVE
    assert list(read_documents("hf://owner/name")) == FIVE


def test_byte_order_mark_crlf_and_blank_lines_are_no_part_of_the_documents(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(b'\xef\xbb\xbf\r\n  \r\n{"text": "one"}\r\n\n{"text": "two"}')
    assert [(one.id, one.text) for one in documents(tmp_path / "c.jsonl")] == [("c:3", "one"), ("c:5", "two")]


def test_csv_records_over_several_lines_are_named_by_the_line_that_they_start_on(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text('text,source\n"one\ntwo",\n\nthree,web\n')
    read = documents(tmp_path / "c.csv")
    assert [(one.id, one.text, one.source) for one in read] == [("c:2", "one\ntwo", None), ("c:5", "three", "web")]


def test_prompt_and_response_are_a_document_too_beside_plain_text(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": 7, "prompt": "Why?", "response": "Because."},
        {"id": 8, "text": "alone", "prompt": None, "response": None},
        {"id": 9, "text": "from a prompt", "prompt": "kept"},
    ]
    pair, plain, prompted = documents(write_jsonl(tmp_path / "c.jsonl", rows))
    assert pair == Document(id="7", prompt="Why?", text="Because.", source=None, metadata={})
    assert (plain.text, plain.prompt) == ("alone", None)
    assert (prompted.text, prompted.prompt, prompted.metadata) == ("from a prompt", None, {"prompt": "kept"})


def test_fields_go_by_the_names_that_they_are_given(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"key": "k", "ask": "Q", "answer": "A", "from": "web", "text": "Q A", "id": None}]
    path = write_jsonl(tmp_path / "c.jsonl", rows)
    fields = Fields(id="key", prompt="ask", response="answer", source="from")
    pair = Document(id="k", prompt="Q", text="A", source="web", metadata={"text": "Q A", "id": None})
    assert documents(path, fields) == [pair]
    (text,) = documents(path, replace(fields, prompt="", response="", id=""))
    assert (text.id, text.text, text.prompt) == ("c:1", "Q A", None)


def test_shards_without_ids_are_named_by_path_and_row(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parquet(tmp_path / name / "part.parquet", [{"text": "x"}, {"text": "y"}])
    assert [one.id for one in documents(tmp_path)] == ["a/part:1", "a/part:2", "b/part:1", "b/part:2"]


def test_types_that_json_does_not_know_become_what_the_table_says(tmp_path: Path) -> None:
    row = {
        "text": "x",
        "day": date(2024, 2, 29),
        "moment": datetime(2024, 2, 29, 12, tzinfo=UTC),
        "price": Decimal("1.50"),
        "raw": b"\xff\x00",
        "score": float("nan"),
        "nested": {"list": [1, float("inf")], "none": None},
    }
    (one,) = documents(write_parquet(tmp_path / "c.parquet", [row]))
    assert one.metadata == {
        "day": "2024-02-29",
        "moment": "2024-02-29T12:00:00+00:00",
        "price": "1.50",
        "raw": "/wA=",
        "score": None,
        "nested": {"list": [1, None], "none": None},
    }
