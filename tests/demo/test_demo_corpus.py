"""The demo's corpus is real, unique, and the same every time."""

import json
import subprocess
import sys
from pathlib import Path

import corpus
import pytest

HERE = Path(corpus.__file__)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The corpus, twice, each by a process of its own."""
    paths = [tmp_path_factory.mktemp("corpus") / f"{number}.jsonl" for number in range(2)]
    for path in paths:
        subprocess.run([sys.executable, HERE, "--out", path], check=True, capture_output=True)
    return paths


def test_thousands_of_different_documents(written: list[Path]) -> None:
    records = [json.loads(line) for line in written[0].read_text().splitlines()]
    assert 2000 <= len(records) <= 6000
    assert len({record["id"] for record in records}) == len({record["text"] for record in records}) == len(records)
    for record in records:
        assert {"id", "text", "source", "licence", "origin", "kind"} <= set(record)
        assert record["licence"] == "PSF-2.0"
    assert {"json", "asyncio.queues", "pydoc_data.topics"} <= {record["source"] for record in records}


def test_the_same_every_time(written: list[Path]) -> None:
    assert written[0].read_bytes() == written[1].read_bytes()


def test_a_long_text_is_cut_between_paragraphs() -> None:
    text = "\n\n".join(f"paragraph {number} " * 10 for number in range(20))
    parts = corpus.split(text)
    assert max(map(len, parts)) <= corpus.MAX_CHARACTERS
    assert "\n\n".join(parts) == text
