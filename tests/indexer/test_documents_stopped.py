"""Builds that are killed or run out of disk leave whole documents from the first on; the next build resumes there."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater_indexer.corpus import Document
from headwater_indexer.documents import DocumentStore, DocumentWriter
from headwater_indexer.errors import IndexDamaged

NAME = "documents.sqlite"
CHILD = """
import sys
from pathlib import Path
from headwater_indexer.corpus import Document
from headwater_indexer.documents import DocumentWriter
from headwater_indexer.errors import StorageError

def numbered(number):
    return Document(id=str(number), text=f"{number} " * 500, source="river", metadata={"n": number}, prompt="?")

path, stop = Path(sys.argv[1]), int(sys.argv[2])
try:
    with DocumentWriter(path, commit_every=10) as writer:
        for number in range(len(writer), stop):
            writer.add(numbered(number), windows=1, tokens=500)
            print(number, flush=True)
except StorageError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
ENDLESS = 10**9


def numbered(number: int) -> Document:
    return Document(id=str(number), text=f"{number} " * 500, source="river", metadata={"n": number}, prompt="?")


@pytest.fixture
def writing(tmp_path: Path) -> Callable[[Path, int], str]:
    """The shell's command for a process that adds documents to a file until there are so many."""
    script = tmp_path / "writing.py"
    script.write_text(CHILD)
    return lambda path, stop: shlex.join([sys.executable, str(script), str(path), str(stop)])


@pytest.mark.parametrize("last", [0, 25, 444])
def test_a_killed_build_leaves_a_beginning_of_whole_documents(
    tmp_path: Path, writing: Callable[[Path, int], str], last: int
) -> None:
    command = shlex.split(writing(tmp_path / NAME, ENDLESS))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        next(line for line in child.stdout if int(line) == last)
        child.kill()
    assert child.returncode == -signal.SIGKILL

    with pytest.raises(IndexDamaged, match=r"has not finished. Run it again: it goes on from there"):
        DocumentStore(tmp_path / NAME)
    with DocumentWriter(tmp_path / NAME) as writer:
        found = len(writer)
        assert found % 10 == 0  # as committed
        assert found > last - 10
        assert all(writer.matches(number, numbered(number)) for number in range(found))
        for number in range(found, found + 25):
            writer.add(numbered(number), windows=1, tokens=500)
    with DocumentStore(tmp_path / NAME) as store:
        assert list(store) == [numbered(number) for number in range(found + 25)]


def test_a_file_size_limit_is_told_and_what_was_finished_stays(
    tmp_path: Path, writing: Callable[[Path, int], str]
) -> None:
    ended = run(f"ulimit -f 600 && exec {writing(tmp_path / NAME, ENDLESS)}")
    assert ended.returncode == 78, ended.stderr
    assert f"{tmp_path / NAME}: cannot be written" in ended.stderr
    assert "the disk refused: see whether it works and has room, and the process's ulimit -f" in ended.stderr
    assert "What was finished stays; the same command resumes." in ended.stderr
    goes_on(tmp_path / NAME, writing)


def test_a_full_disk_is_told_and_what_was_finished_stays(tmp_path: Path, writing: Callable[[Path, int], str]) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    mount = f"mount -t tmpfs -o size=600k none {disk}"
    if run(f"unshare -rm sh -c '{mount}'").returncode:
        pytest.skip("mounting a small disk is not allowed here")
    ended = run(
        f"unshare -rm sh -c '{mount} && {writing(disk / NAME, ENDLESS)}; status=$?; cp {disk}/* {kept}; exit $status'"
    )
    assert ended.returncode == 78, ended.stderr
    assert "cannot be written (database or disk is full): the disk is full: free some space" in ended.stderr
    goes_on(kept / NAME, writing)


def goes_on(path: Path, writing: Callable[[Path, int], str]) -> None:
    with DocumentWriter(path) as writer:
        found = len(writer)
    assert found >= 10
    assert run(writing(path, found + 50)).returncode == 0
    with DocumentStore(path) as store:
        assert list(store) == [numbered(number) for number in range(found + 50)]


def run(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
