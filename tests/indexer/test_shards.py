"""Shards of rows: whole or absent."""

from pathlib import Path

import numpy as np
import pytest

from headwater_indexer.durable import storage_errors
from headwater_indexer.errors import IndexDamaged, StorageError
from headwater_indexer.store.shards import MANIFEST, ShardStore

ROWS = np.random.default_rng(0).standard_normal((30, 11)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    store = ShardStore(tmp_path / "rows", width=11)
    for block in np.array_split(ROWS, 4):
        store.append(block)
    return store


def test_rows_come_back_bit_for_bit(store: ShardStore) -> None:
    again = ShardStore.open(store.folder)
    assert len(again) == 30
    assert [shard.first for shard in again.manifest.shards] == [0, 8, 16, 23]
    assert np.array_equal(np.concatenate(list(again)), ROWS)


def test_a_file_that_the_manifest_does_not_name_is_written_again(store: ShardStore) -> None:
    (store.folder / "rows-00004.h5").write_bytes(b"half a shard")
    (store.folder / "rows-00005.h5.partial").write_bytes(b"less")
    again = ShardStore(store.folder, width=11)
    again.append(ROWS[:2])
    assert np.array_equal(np.concatenate(list(again)), np.concatenate([ROWS, ROWS[:2]]))


def test_another_width_is_refused(store: ShardStore) -> None:
    with pytest.raises(IndexDamaged, match="holds rows of 11 columns, not 12"):
        ShardStore(store.folder, width=12)


def test_damage_is_named(store: ShardStore) -> None:
    shard = store.manifest.shards[2]
    (store.folder / shard.file).write_bytes(b"not HDF5")
    with pytest.raises(IndexDamaged, match=r"rows-00002\.h5 cannot be read"):
        store.read(shard)
    (store.folder / MANIFEST).write_text("{}")
    with pytest.raises(IndexDamaged, match="is not a manifest of rows"):
        ShardStore.open(store.folder)


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the disk is full"), storage_errors(tmp_path):
        Path("/dev/full").write_bytes(b"x")
