"""Indexes pushed to shared storage and pulled, and corpora read from it: on a disk, and in an object store."""

import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from object_store import BUCKET, object_store

from headwater_indexer.append import append_documents
from headwater_indexer.build import build_index
from headwater_indexer.compact import compact
from headwater_indexer.corpus import read_documents
from headwater_indexer.errors import (
    ConfigurationError,
    CorpusError,
    IndexDamaged,
    MissingPackage,
    StorageError,
    UsageError,
)
from headwater_indexer.index import Index, verify_index
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions, stamp
from headwater_indexer.remove import Unwanted, remove_documents
from headwater_indexer.storage.exchange import pull_index, push_index
from headwater_indexer.storage.remote import Remote

OPTIONS = BuildOptions(rank=6, bits=4)


@pytest.fixture(scope="module")
def store() -> Iterator[None]:
    with object_store() as known, pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield


@pytest.fixture(params=["disk", "object store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a place where there is nothing yet."""
    if request.param == "disk":
        return f"file://{tmp_path}/remote"
    request.getfixturevalue("store")
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path) -> Path:
    out = tmp_path_factory.mktemp("pushed") / "i"
    build_index(str(checkpoint_folder), str(corpus_file), out, OPTIONS)
    return out


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "i"))


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The names of the files that were put and got; `transfers["stop"]` holds how many more go through."""
    seen: dict[str, Any] = {"put": [], "get": [], "stop": [10**6]}

    def watched(name: str, real: Callable[..., None], of: int) -> Callable[..., None]:
        def call(self: Remote, *arguments: Any) -> None:
            seen["stop"][0] -= 1
            if seen["stop"][0] < 0:
                raise KeyboardInterrupt
            real(self, *arguments)
            seen[name].append(str(arguments[of]))

        return call

    monkeypatch.setattr(Remote, "put", watched("put", Remote.put, 1))
    monkeypatch.setattr(Remote, "get", watched("get", Remote.get, 0))
    return seen


def test_what_is_pulled_is_what_was_pushed(index: Path, url: str, tmp_path: Path) -> None:
    pushed = push_index(index, url)
    pulled = pull_index(url, tmp_path / "copy")
    assert pulled.version == pushed.version == verify_index(tmp_path / "copy").version
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ConfigurationError, match="holds other files"):
        pull_index(url, tmp_path / "mine")


def test_a_new_version_shares_what_is_there_and_what_was_erased_is_deleted(
    index: Path, url: str, tmp_path: Path, transfers: dict[str, list[str]]
) -> None:
    (tmp_path / "more.jsonl").write_text('{"id": "new", "text": "the mill follows the river"}\n')
    first = push_index(index, url)
    pull_index(url, tmp_path / "copy")
    transfers["put"].clear(), transfers["get"].clear()
    append_documents(index, [str(tmp_path / "more.jsonl")])
    second = push_index(index, url)
    new = {file.sha256 for file in second.files} - {file.sha256 for file in first.files}
    assert sorted(transfers["put"]) == sorted([*(f"files/{sha}" for sha in new), "manifest.json"])
    pull_index(url, tmp_path / "copy")
    assert sorted(transfers["get"]) == sorted(f"files/{sha}" for sha in new)
    remove_documents(index, Unwanted(ids=["doc-000"]))
    last = compact(index)
    push_index(index, url)
    assert set(Remote.at(url).files("files")) == {file.sha256 for file in last.files}
    assert pull_index(url, tmp_path / "copy").version == verify_index(tmp_path / "copy").version == last.version
    with Index.open(tmp_path / "copy", device="cpu").documents.stores[0] as documents:
        assert documents.by_id("doc-000") is None
        assert documents.by_id("new") is not None
    assert not (tmp_path / "copy" / "documents.sqlite").exists()


def test_a_push_and_a_pull_that_are_stopped_go_on_where_they_were(
    index: Path, url: str, tmp_path: Path, transfers: dict[str, Any]
) -> None:
    files = {file.sha256 for file in Manifest.read(index).files}
    transfers["stop"][0] = 3
    with pytest.raises(KeyboardInterrupt):
        push_index(index, url)
    with pytest.raises(IndexDamaged, match=r"has no manifest\.json: push an index there"):
        pull_index(url, tmp_path / "copy")
    transfers["stop"][0] = 10**6
    push_index(index, url)
    assert sorted(transfers["put"]) == sorted([*(f"files/{sha}" for sha in files), "manifest.json"])
    transfers["stop"][0] = 3
    with pytest.raises(KeyboardInterrupt):
        pull_index(url, tmp_path / "copy")
    with pytest.raises(IndexDamaged, match=r"has no manifest\.json"):
        Manifest.read(tmp_path / "copy")
    transfers["stop"][0] = 10**6
    push_index(index, f"{url}-other")
    with pytest.raises(ConfigurationError, match="holds an unfinished pull of"):
        pull_index(f"{url}-other", tmp_path / "copy")
    transfers["get"].clear()
    pull_index(url, tmp_path / "copy")
    assert len(transfers["get"]) == len(files) - 3
    assert verify_index(tmp_path / "copy").version == Manifest.read(index).version


def test_an_altered_file_and_another_index_are_told(index: Path, url: str, tmp_path: Path) -> None:
    manifest = push_index(index, url)
    victim = manifest.files[1]
    (tmp_path / "altered").write_bytes(bytes(victim.bytes))
    Remote.at(url).put(tmp_path / "altered", f"files/{victim.sha256}")
    with pytest.raises(IndexDamaged, match=rf"files/{victim.sha256} is altered or cut"):
        pull_index(url, tmp_path / "copy")
    assert not (tmp_path / "copy" / "manifest.json").exists()
    other = manifest.model_copy(update={"shared": manifest.shared[:1]})
    other.write(tmp_path / "manifest.json")
    Remote.at(url).put(tmp_path / "manifest.json", "manifest.json")
    with pytest.raises(ConfigurationError, match="holds another index: choose another URL"):
        push_index(index, url)
    push_index(index, url, overwrite=True)
    (tmp_path / "altered").write_text("{}")
    Remote.at(url).put(tmp_path / "altered", "manifest.json")
    with pytest.raises(IndexDamaged, match=r"manifest\.json is altered or damaged"):
        pull_index(url, tmp_path / "copy")


def test_a_corpus_is_read_from_its_url(url: str, corpus_file: Path, tmp_path: Path) -> None:
    remote = Remote.at(url)
    (tmp_path / "part.jsonl.gz").write_bytes(gzip.compress(b'{"text": "the mill"}\n{"text": "the lake"}\n'))
    (tmp_path / "bad.jsonl").write_text('{"text": "the mill"}\n{"text": \n')
    remote.put(corpus_file, "one/corpus.jsonl")
    remote.put(tmp_path / "part.jsonl.gz", "many/a/part.jsonl.gz")
    remote.put(tmp_path / "part.jsonl.gz", "many/b/part.jsonl.gz")
    remote.put(tmp_path / "bad.jsonl", "bad/bad.jsonl")
    assert list(read_documents(f"{url}/one/corpus.jsonl")) == list(read_documents(str(corpus_file)))
    assert list(read_documents(f"{url}/one")) == list(read_documents(str(corpus_file)))
    ids = [document.id for document in read_documents(f"{url}/many/")]
    assert ids == ["a/part:1", "a/part:2", "b/part:1", "b/part:2"]
    with pytest.raises(CorpusError, match=rf"^{url}/bad/bad\.jsonl:2: not valid JSON"):
        list(read_documents(f"{url}/bad"))
    with pytest.raises(CorpusError, match="there is no such file or folder"):
        list(read_documents(f"{url}/none"))
    before = stamp(f"{url}/one")
    assert before == stamp(f"{url}/one")
    remote.put(tmp_path / "bad.jsonl", "one/corpus.jsonl")
    assert before != stamp(f"{url}/one")


@pytest.mark.parametrize(
    ("url", "error", "complaint"),
    [
        ("s3://key:secret@bucket/x", UsageError, "holds a name or a key before its @"),
        ("nothing://x", UsageError, "nothing://x: Protocol not known"),
        ("abfs://x/y", MissingPackage, "abfs:// needs another package"),
    ],
)
def test_urls_that_cannot_be_used(url: str, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint) as told:
        pull_index(url, Path("never"))
    assert "secret" not in str(told.value)


def test_a_store_that_refuses_is_one_sentence(store: None, index: Path, tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"^s3://no-such-bucket/x cannot be .*\(The specified bucket does not exist\)"
    ):
        push_index(index, "s3://no-such-bucket/x")
    with pytest.raises(IndexDamaged, match="has no manifest"):
        pull_index(f"s3://{BUCKET}/nothing-here", tmp_path / "copy")
