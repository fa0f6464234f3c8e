"""Each thing that can be wrong with a corpus is told with its place, its reason and a way out."""

import gzip
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from headwater_indexer.corpus import Document, Fields, read_documents
from headwater_indexer.errors import CorpusError, MissingPackage

GOOD = b'{"id": "a", "text": "good"}\n'
Refused = Callable[..., str]


def documents(location: Path | str, fields: Fields | None = None) -> list[Document]:
    return list(read_documents(str(location), fields or Fields()))


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Writes a corpus of these bytes and gives the error of reading it, without the folder's name."""

    def read(data: bytes, name: str = "c.jsonl", fields: Fields | None = None) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CorpusError) as caught:
            documents(tmp_path / name, fields)
        assert caught.value.exit_code == 65
        return str(caught.value).replace(f"{tmp_path}/", "")

    return read


LINES = {
    "cut": (
        b'{"id": "b", "text": ',
        r"^c.jsonl:2: not valid JSON at column 21 \(Expecting value\). Each line must hold",
    ),
    "two": (b"{} {}", "^c.jsonl:2: not valid JSON at column 4"),
    "array": (b'["b"]', r'^c.jsonl:2: the line holds an array, not an object. Each line must look like {"id"'),
    "null": (b"null", "^c.jsonl:2: the line holds null, not an object"),
    "nan": (b'{"id": "b", "text": "x", "n": NaN}', "^c.jsonl:2: not valid JSON .NaN is not a JSON number"),
    "minus infinity": (b'{"id": "b", "text": "x", "n": -Infinity}', "^c.jsonl:2: .*-Infinity is not a JSON number"),
    "overflow": (b'{"id": "b", "text": "x", "n": 1e999}', "^c.jsonl:2: .*1e999 is too large for a number"),
    "digits": (
        b'{"id": "b", "text": "x", "n": ' + b"9" * 5000 + b"}",
        r"^c.jsonl:2: not valid JSON \(Exceeds the limit",
    ),
    "brackets": (b"[" * 100_000, "^c.jsonl:2: the JSON is nested too deeply"),
    "deep": (
        b'{"id": "b", "text": "x", "n": ' + b"[" * 70 + b"]" * 70 + b"}",
        "^c.jsonl:2: the field 'n' is nested deeper than 64 levels",
    ),
    "no text": (
        b'{"id": "b", "body": "x", "title": "y"}',
        "^c.jsonl:2: no field 'text'. Its fields are 'id', 'body', 'title'. Name them with --text-field, or",
    ),
    "null text": (b'{"id": "b", "text": null}', "^c.jsonl:2: null in 'text'. Its fields are 'id', 'text'"),
    "prompt alone": (
        b'{"id": "b", "prompt": "Why?"}',
        "^c.jsonl:2: no field 'text', and only one of 'prompt' and 'response'",
    ),
    "empty chat": (b'{"id": "b", "messages": []}', "^c.jsonl:2: the field 'messages' is not a list of turns such as"),
    "chat of text": (b'{"id": "b", "messages": "hi"}', "^c.jsonl:2: the field 'messages' is not a list of turns"),
    "no turn": (
        b'{"id": "b", "messages": [{"role": "user", "content": "x"}, {"role": "user"}]}',
        r"^c.jsonl:2: the field 'messages', turn 2 is not of the form {\"role\"",
    ),
    "turn of parts": (
        b'{"id": "b", "messages": [{"role": "user", "content": [{"type": "text"}]}]}',
        "^c.jsonl:2: the field 'messages', turn 1: 'content' is a list, not a string",
    ),
    "no assistant": (
        b'{"id": "b", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}',
        "^c.jsonl:2: the field 'messages' has no turn of the role 'assistant' to train on",
    ),
    "ShareGPT": (
        b'{"id": "b", "conversations": [{"from": "human", "value": "x"}]}',
        "^c.jsonl:2: chat conversations of another form than messages are not read.*Write them as `messages`",
    ),
    "text and chat": (
        b'{"id": "b", "text": "x", "messages": [{"role": "assistant", "content": "x"}]}',
        "^c.jsonl:2: the record has 'text' and also 'messages'.*--text-field '' or --messages-field ''",
    ),
    "both": (
        b'{"id": "b", "text": "x", "prompt": "y", "response": "z"}',
        "^c.jsonl:2: the record has 'text' and also 'prompt' and 'response'.*--text-field ''.*--prompt-field ''",
    ),
    "number": (b'{"id": "b", "text": 5}', "^c.jsonl:2: the field 'text' is a number, not a string"),
    "list": (
        b'{"id": "b", "prompt": ["x"], "response": "y"}',
        "^c.jsonl:2: the field 'prompt' is a list, not a string",
    ),
    "source": (b'{"id": "b", "text": "x", "source": {}}', "^c.jsonl:2: the field 'source' is an object, not a string"),
    "empty": (b'{"id": "b", "text": ""}', "^c.jsonl:2: the field 'text' is empty. Leave this record out"),
    "spaces": (b'{"id": "b", "text": " \\n\\u3000"}', "^c.jsonl:2: the field 'text' is empty"),
    "empty response": (b'{"id": "b", "prompt": "x", "response": " "}', "^c.jsonl:2: the field 'response' is empty"),
    "surrogate": (
        b'{"id": "b", "text": "half \\ud800"}',
        r"^c.jsonl:2: the field 'text' holds half of a surrogate pair \('.ud800'\) at character 5",
    ),
    "surrogate within": (b'{"id": "b", "text": "x", "n": {"k": ["\\udc00"]}}', "^c.jsonl:2: the field 'n' holds half"),
    "surrogate name": (b'{"id": "b", "text": "x", "\\udc00": 1}', r"^c.jsonl:2: the field '.udc00' holds half"),
    "not utf-8": (b'{"id": "b", "text": "caf\xe9"}', r"^c.jsonl:2: byte 52 of the file \(0xe9\) is not UTF-8. Convert"),
    "no id": (
        b'{"text": "x"}',
        "^c.jsonl:2: the record has no id .field 'id'., while the first has one.*--id-field ''",
    ),
    "empty id": (b'{"id": "", "text": "x"}', "^c.jsonl:2: the field 'id' is ''. Ids have 1 to 512 characters"),
    "long id": (
        b'{"id": "' + b"i" * 513 + b'", "text": "x"}',
        "^c.jsonl:2: the field 'id' is 'iii.* 1 to 512 characters",
    ),
    "control id": (b'{"id": "a\\u0007", "text": "x"}', r"^c.jsonl:2: the field 'id' is 'a.x07'.*no control characters"),
    "float id": (b'{"id": 1.5, "text": "x"}', "^c.jsonl:2: the field 'id' is a number, not a string"),
    "true id": (b'{"id": true, "text": "x"}', "^c.jsonl:2: the field 'id' is true or false, not a string"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_bad_line_of_json_lines(refused: Refused, name: str) -> None:
    line, message = LINES[name]
    assert_says(refused(GOOD + line + b"\n"), message)


def test_the_documents_before_a_bad_line_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(GOOD + b"{")
    stream = read_documents(str(tmp_path / "c.jsonl"))
    assert next(stream).id == "a"
    with pytest.raises(CorpusError, match=r"c\.jsonl:2: not valid JSON"):
        next(stream)


def test_a_corpus_that_gives_ids_to_later_records_alone(refused: Refused) -> None:
    message = refused(b'{"text": "x"}\n' + GOOD)
    assert_says(message, "^c.jsonl:2: the record has an id .field 'id'., while the first has none")


@pytest.mark.parametrize("role", ["id", "text", "source", "prompt", "response"])
def test_a_field_that_was_named_but_is_not_there(refused: Refused, role: str) -> None:
    message = refused(GOOD, fields=Fields(**{role: "missing"}))
    assert_says(message, f"^c.jsonl:1: no field 'missing' .--{role}-field.. Its fields are 'id', 'text'")


def test_an_encoding_with_two_bytes_a_character(refused: Refused) -> None:
    assert_says(
        refused(GOOD.decode().encode("utf-16")), "^c.jsonl:1: byte 0 of the file .0xff. looks like UTF-16.*iconv"
    )


def test_a_line_without_end(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_indexer.formats.lines.LONGEST", 2**20)
    assert_says(refused(GOOD + b" " * (2**20 + 1)), "^c.jsonl:2: the line is longer than 1 MiB. Split the document")


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed_files_that_are_cut_off_or_are_none(
    refused: Refused, suffix: str, compress: Callable[..., bytes]
) -> None:
    whole = compress(b"".join(json.dumps({"text": str(number)}).encode() + b"\n" for number in range(5000)))
    for size in (len(whole) // 2, len(whole) - 3):
        message = refused(whole[:size], f"c.jsonl{suffix}")
        assert_says(message, f"^c.jsonl{suffix}: the compressed data stops in the middle. Copy or download")
    assert_says(refused(GOOD, f"c.jsonl{suffix}"), f"^c.jsonl{suffix}: not a whole {suffix} file .*or correct its name")


TABLES = {
    "few": (b"id,text\na,x\nb\n", "^c.csv:3: 1 values under 2 columns. A value with a comma"),
    "many": (b'id,text\na,"x\nx"\nb,y,z\n', "^c.csv:4: 3 values under 2 columns"),
    "open quote": (
        b'id,text\na,x\nb,"y\n',
        "^c.csv:3: not valid CSV .unexpected end of data.. Look for a double quote",
    ),
    "bare quote": (b'id,text\na,"x"y\n', "^c.csv:2: not valid CSV"),
    "columns": (b"id,text,text\na,x,y\n", "^c.csv:1: two columns have the name 'text'"),
    "utf-8": (b"id,text\na,caf\xe9\n", "^c.csv:2: byte 13 of the file .0xe9. is not UTF-8"),
    "no id": (b"id,text\n,x\n", "^c.csv:2: the field 'id' is ''"),
    "no text": (b"id,body\na,x\n", "^c.csv:2: no field 'text'. Its fields are 'id', 'body'"),
    "header alone": (b"id,text\n", "^c.csv: holds no document"),
    "nothing": (b"", "^c.csv: holds no document"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_csv_file(refused: Refused, name: str) -> None:
    data, message = TABLES[name]
    assert_says(refused(data, "c.csv"), message)


def test_bad_parquet_files(refused: Refused, tmp_path: Path) -> None:
    assert_says(refused(GOOD, "c.parquet"), "^c.parquet: not a whole Parquet file.*Copy or write it again")
    parquet.write_table(pyarrow.table({"text": ["x", None]}), tmp_path / "null.parquet")
    with pytest.raises(CorpusError, match=r"null\.parquet: row 2: null in 'text'"):
        documents(tmp_path / "null.parquet")
    parquet.write_table(pyarrow.table([["x"], ["y"]], names=["text", "text"]), tmp_path / "twice.parquet")
    with pytest.raises(CorpusError, match=r"twice\.parquet: two columns have the name 'text'"):
        documents(tmp_path / "twice.parquet")


def test_a_truncated_parquet_file(refused: Refused, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["x"] * 1000}), tmp_path / "whole.parquet")
    cut = (tmp_path / "whole.parquet").read_bytes()[:-20]
    assert_says(refused(cut, "c.parquet"), "^c.parquet: not a whole Parquet file")


def test_saved_datasets_without_the_split_or_a_file(tmp_path: Path) -> None:
    import datasets

    datasets.DatasetDict({"test": datasets.Dataset.from_list([{"text": "x"}])}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(CorpusError, match=r"d: no split 'train'. It has 'test': name one with --split"):
        documents(tmp_path / "d")
    next((tmp_path / "d" / "test").glob("*.arrow")).unlink()
    with pytest.raises(CorpusError, match="d: cannot be read as a Hugging Face dataset"):
        list(read_documents(str(tmp_path / "d"), split="test"))


def test_bad_text_files(refused: Refused, tmp_path: Path) -> None:
    assert_says(refused(b"ab\xff", "folder/a.txt"), "^folder/a.txt: byte 2 of the file .0xff. is not UTF-8")
    assert_says(refused(b"\n", "folder/a.txt"), "^folder/a.txt: the field 'text' is empty")


LOCATIONS = {
    "nothing-here.jsonl": "^nothing-here.jsonl: there is no such file or folder. A corpus is a .jsonl, .ndjson",
    "/no/such/folder": "^/no/such/folder: there is no such file or folder",
    "": "^the empty name: there is no such file or folder",
    "hf://": "^hf://: not a dataset on the hub. Write hf://owner/name",
}


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_location_that_does_not_exist(location: str) -> None:
    with pytest.raises(CorpusError, match=LOCATIONS[location]):
        documents(location)


def test_files_of_other_kinds(refused: Refused, tmp_path: Path) -> None:
    assert_says(refused(b"[]", "c.json"), "^c.json: a .json file is one value.*Write JSON Lines.*jq -c")
    assert_says(refused(b"%PDF", "c.pdf"), "^c.pdf: of no kind that can be read. A corpus is")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty: no file here or below that can be read"):
        documents(tmp_path / "empty")


def test_a_folder_of_several_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "b.txt").write_text("x")
    with pytest.raises(CorpusError, match=r"holds JSON Lines and text files. Give one folder for each kind"):
        documents(tmp_path)


@pytest.mark.parametrize(
    ("package", "name"),
    [("zstandard", "c.jsonl.zst"), ("pyarrow", "c.parquet"), ("datasets", "saved/dataset_info.json")],
)
def test_a_package_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    location = tmp_path / name.removesuffix("/dataset_info.json")
    with pytest.raises(MissingPackage, match=rf"needs the package {package} .*`pip install 'headwater\[datasets\]'`"):
        documents(location)


def assert_says(message: str, pattern: str) -> None:
    assert re.search(pattern, message), message
