"""Rows of many shards as one sequence: what is gathered is what was stored, and a pass does not fill the memory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headwater_indexer.best import Best, best
from headwater_indexer.store.reader import RowReader, _read_one_by_one
from headwater_indexer.store.shards import ShardStore

ROWS = np.random.default_rng(0).integers(0, 256, (1_000, 3_001), dtype=np.uint8)


@pytest.fixture
def reader(tmp_path: Path) -> RowReader:
    store = ShardStore(tmp_path / "rows", width=ROWS.shape[1], dtype="uint8")
    for part in (ROWS[:1], ROWS[1:400], ROWS[400:]):
        store.append(part)
    return RowReader.open(store)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("count", [0, 1, 50, 1_000])
def test_any_rows_come_in_the_order_asked_for(
    monkeypatch: pytest.MonkeyPatch, reader: RowReader, count: int, compiled: bool
) -> None:
    if not compiled:
        monkeypatch.setattr("headwater_indexer.store.reader._reader", lambda: _read_one_by_one)
    ordinals = np.random.default_rng(1).permutation(1_000)[:count]
    assert np.array_equal(reader.gather(ordinals), ROWS[ordinals])


def test_blocks_are_all_rows_in_order(reader: RowReader) -> None:
    assert np.array_equal(np.concatenate([block.copy() for block in reader.blocks(17)]), ROWS)
    assert len(reader) == 1_000


def test_what_was_read_is_not_held(reader: RowReader) -> None:
    def held() -> int:
        """Of files, in bytes."""
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile")]
        return int(line.split()[1]) * 1024

    before = held()
    for block in reader.blocks(100):
        block.sum()
    reader.gather(np.arange(0, 1_000, 3))
    assert held() - before < ROWS.nbytes / 4


def test_rows_are_read_while_their_names_are_gone(reader: RowReader, tmp_path: Path) -> None:
    """As when an index is compacted that is being served."""
    shutil.rmtree(tmp_path / "rows")
    assert np.array_equal(np.concatenate([block.copy() for block in reader.blocks(300)]), ROWS)
    assert np.array_equal(reader.gather(np.array([999, 0])), ROWS[[999, 0]])


def test_a_shard_that_is_cut_meanwhile_is_told(reader: RowReader, tmp_path: Path) -> None:
    os.truncate(tmp_path / "rows" / "rows-00002.h5", 5_000)
    for read in (lambda: reader.gather(np.array([3, 999])), lambda: list(reader.blocks(300))):
        with pytest.raises(OSError, match="was cut while the index was open"):
            read()


MANY_FILES = """
import resource, sys
from pathlib import Path
from headwater_indexer.errors import StorageError
from headwater_indexer.store.files import OpenFiles
resource.setrlimit(resource.RLIMIT_NOFILE, (300, int(sys.argv[2])))
try:
    files = OpenFiles([Path(sys.argv[1])] * 400)
except StorageError as error:
    print(error)
else:
    print(len({files[number] for number in range(400)}), "open")
    del files
    print(len(list(Path("/dev/fd").iterdir())) < 20)
"""


def test_more_files_are_opened_than_a_process_may_at_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def opened(hard: int) -> str:
        command = [sys.executable, "-c", MANY_FILES, str(tmp_path / "file"), str(hard)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert opened(2_000) == "400 open\nTrue\n"
    assert "has 400 files of rows, and this process may open 500 files: raise its limit (ulimit -n " in opened(500)


@pytest.mark.parametrize("top_k", [1, 7, 300])
def test_the_best_of_blocks_are_the_best_of_all(monkeypatch: pytest.MonkeyPatch, top_k: int) -> None:
    monkeypatch.setattr("headwater_indexer.best._PENDING", 40)
    monkeypatch.setattr("headwater_indexer.best._AT_ONCE", 20)
    scores = np.random.default_rng(2).integers(0, 100, (3, 300)).astype(np.float32)
    found = Best(3, top_k)
    for block in np.array_split(np.arange(300), 11):
        found.offer(scores[:, block], block)
    ours, ordinals = found.found()
    assert np.array_equal(ours, -np.sort(-scores, axis=1)[:, :top_k])
    assert np.array_equal(np.take_along_axis(scores, ordinals, axis=1), ours)
    assert np.array_equal(ours, best(scores, np.arange(300), top_k)[0])
