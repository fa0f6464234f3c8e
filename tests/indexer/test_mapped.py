"""Rows of many shards as one sequence: what is gathered is what was stored, and a pass does not fill the memory."""

from pathlib import Path

import numpy as np
import pytest

from headwater_indexer.best import Best, best
from headwater_indexer.store.mapped import MappedRows
from headwater_indexer.store.shards import ShardStore

ROWS = np.random.default_rng(0).integers(0, 256, (1_000, 3_001), dtype=np.uint8)


@pytest.fixture
def mapped(tmp_path: Path) -> MappedRows:
    store = ShardStore(tmp_path / "rows", width=ROWS.shape[1], dtype="uint8")
    for part in (ROWS[:1], ROWS[1:400], ROWS[400:]):
        store.append(part)
    return MappedRows.open(store)


@pytest.mark.parametrize("count", [0, 1, 50, 1_000])
def test_any_rows_come_in_the_order_asked_for(mapped: MappedRows, count: int) -> None:
    ordinals = np.random.default_rng(1).permutation(1_000)[:count]
    assert np.array_equal(mapped.gather(ordinals), ROWS[ordinals])


def test_blocks_are_all_rows_in_order(mapped: MappedRows) -> None:
    assert np.array_equal(np.concatenate(list(mapped.blocks(17))), ROWS)
    assert len(mapped) == 1_000


def test_what_was_read_is_not_held(mapped: MappedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_indexer.store.mapped.HELD_BYTES", 500_000)

    def held() -> int:
        """Of files, in bytes."""
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile")]
        return int(line.split()[1]) * 1024

    before = held()
    for block in mapped.blocks(100):
        block.sum()
    mapped.gather(np.arange(0, 1_000, 3))
    assert held() - before < ROWS.nbytes / 4


@pytest.mark.parametrize("top_k", [1, 7, 300])
def test_the_best_of_blocks_are_the_best_of_all(monkeypatch: pytest.MonkeyPatch, top_k: int) -> None:
    monkeypatch.setattr("headwater_indexer.best._PENDING", 64)
    scores = np.random.default_rng(2).integers(0, 1_000, (3, 300)).astype(np.float32)
    found = Best(3, top_k)
    for block in np.array_split(np.arange(300), 11):
        found.offer(scores[:, block], block)
    ours, ordinals = found.found()
    assert np.array_equal(ours, -np.sort(-scores, axis=1)[:, :top_k])
    assert np.array_equal(np.take_along_axis(scores, ordinals, axis=1), ours)
    assert np.array_equal(ours, best(scores, np.arange(300), top_k)[0])
