"""The three commands of a user, as they stand in the README: build, serve, ask."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwater

COMMANDS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path) -> Path:
    """An index made by the command, with the model's folder given relative to the working directory."""
    out = tmp_path_factory.mktemp("e2e") / "my.index"
    command = [COMMANDS / "headwater-index", "build", "--model", checkpoint_folder.name, "--documents", corpus_file]
    built = subprocess.run(
        [*command, "--out", out, "--rank", "8"],
        cwd=checkpoint_folder.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert built.stdout == ""
    assert "tok/s" in built.stderr
    assert "Traceback" not in built.stderr
    return out


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """A server of that index, in a process of its own, on a free port."""
    with subprocess.Popen(
        [COMMANDS / "headwater-serve", folder, "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        address = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        for line in server.stderr:
            if "ready" in line.lower():
                break
        yield address
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0


def test_the_sdk_finds_a_quoted_document(url: str, corpus_file: Path) -> None:
    records = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    record = next(record for record in records if 60 < len(record["text"]) < 120)
    with headwater.Client(base_url=url) as client:
        answer = client.attribute(prompt="", response=record["text"], top_k=5)
        assert answer.data[0].document_id == record["id"]
        assert answer.data[0].metadata == {"number": record["number"]}
        assert [hit.rank for hit in answer.data] == [1, 2, 3, 4, 5]
        assert sum(source.share for source in answer.sources) == pytest.approx(1)
        assert client.document(record["id"]).text == record["text"]
        assert client.indexes().data[0].documents == 120


def test_the_command_prints_a_table_or_json(url: str) -> None:
    question = ["--prompt", "the river", "--response", " feeds the lake", "--top-k", "3"]
    ask = [COMMANDS / "headwater", "--base-url", url, "attribute", *question]
    table = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    assert re.search(r"rank\s+score\s+percentile", table)
    answer = json.loads(subprocess.run([*ask, "--json"], capture_output=True, text=True, check=True).stdout)
    assert [hit["rank"] for hit in answer["data"]] == [1, 2, 3]
    assert all(hit["document_id"] in table for hit in answer["data"])


def test_a_page_is_served(url: str) -> None:
    import httpx2

    page = httpx2.get(f"{url}/", trust_env=False)
    assert page.status_code == 200
    assert "Which training documents made the model say that?" in page.text


@pytest.mark.parametrize(
    ("name", "place"), [("manifest.json", 5), pytest.param("search.faiss", 5000, marks=pytest.mark.slow)]
)
def test_an_altered_index_is_not_served(name: str, place: int, folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    data = (copy / name).read_bytes()
    # A place that is known: an altered checksum in the manifest would accuse the file that it is of.
    (copy / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    served = subprocess.run(
        [COMMANDS / "headwater-serve", copy, "--port", "0"], capture_output=True, text=True, check=False, timeout=60
    )
    assert served.returncode == 65
    assert f"{name} is altered" in served.stderr
    assert "Traceback" not in served.stderr
