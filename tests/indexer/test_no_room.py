"""A change for which the disk has no room, or whose folder cannot be written, ends in one sentence; nothing is lost."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headwater_indexer.append import append_documents
from headwater_indexer.build import build_index
from headwater_indexer.errors import IndexDamaged
from headwater_indexer.index import verify_index
from headwater_indexer.options import BuildOptions
from headwater_indexer.remove import Unwanted, remove_documents

COMMAND = [sys.executable, "-m", "headwater_indexer.cli"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("room")
    lines = corpus_file.read_text().splitlines(keepends=True)
    for name, part in (("a", lines[:60]), ("b", lines[60:100]), ("c", lines[100:])):
        (folder / f"{name}.jsonl").write_text("".join(part))
    build_index(str(checkpoint_folder), str(folder / "a.jsonl"), folder / "i", BuildOptions(rank=6))
    append_documents(folder / "i", [str(folder / "b.jsonl")])
    remove_documents(folder / "i", Unwanted(ids=["doc-003"]))
    return folder


@pytest.mark.parametrize(
    ("kilobytes", "words"),
    [
        pytest.param(1, ("remove", "i", "--id", "doc-005"), marks=pytest.mark.slow),
        pytest.param(1, ("rollback", "i", "--restore-removed"), marks=pytest.mark.slow),
        pytest.param(40, ("compact", "i"), marks=pytest.mark.slow),
        (16, ("append", "i", "c.jsonl")),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_a_change_without_room_leaves_what_was(
    grown: Path, tmp_path: Path, kilobytes: int, words: tuple[str, ...]
) -> None:
    place = shutil.copytree(grown, tmp_path / "room")
    before = verify_index(place / "i")
    folders = sorted(path for path in (place / "i").rglob("*") if path.is_dir())
    limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", *COMMAND, *words]
    stopped = subprocess.run(limited, cwd=place, capture_output=True, text=True, check=False)
    assert stopped.returncode == 78, stopped.stderr
    assert "cannot be written" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert verify_index(place / "i") == before
    if words[0] != "append":  # which goes on where it was
        assert sorted(path for path in (place / "i").rglob("*") if path.is_dir()) == folders
    done = subprocess.run([*COMMAND, *words], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert verify_index(place / "i").number == before.number + 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_written(grown: Path, tmp_path: Path) -> None:
    place = shutil.copytree(grown, tmp_path / "room")
    (place / "i" / "removed").chmod(0o500)
    stopped = subprocess.run(
        [*COMMAND, "remove", "i", "--id", "doc-005"], cwd=place, capture_output=True, text=True, check=False
    )
    assert stopped.returncode == 78
    assert "permission denied: choose another folder" in stopped.stderr


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(IndexDamaged, match=r"give the folder of an index|has no manifest"):
            remove_documents(folder, Unwanted(ids=["a"]))
