"""Files that were damaged with a manifest to match are refused by what reads them, and never by a crash of it."""

import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from headwater_indexer.codes.coder import Coder
from headwater_indexer.errors import IndexDamaged
from headwater_indexer.numbering import load_removed, save_removed
from headwater_indexer.projection import Projections
from headwater_indexer.search import FlatSearch, write_flat_index


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "search.faiss", tmp_path / "norms.safetensors"
    write_flat_index(*made, [np.ones((5, 3), dtype=np.float32)], 3)
    return made


@pytest.mark.parametrize(
    ("place", "written"),
    [
        (0, b"IxFl"),
        (0, b"IwFl"),
        (4, struct.pack("<i", 1 << 30)),
        (4, struct.pack("<i", -3)),
        (8, struct.pack("<q", 1 << 60)),
        (8, struct.pack("<q", -1)),
        (33, struct.pack("<i", 1)),
        (37, struct.pack("<Q", (1 << 64) - 1)),
        (37, struct.pack("<Q", 14)),
        (100, b"more than there was"),
    ],
)
def test_a_search_file_with_another_head_is_refused(paths: tuple[Path, Path], place: int, written: bytes) -> None:
    data = bytearray(paths[0].read_bytes())
    data[place : place + len(written)] = written
    paths[0].write_bytes(data)
    with pytest.raises(IndexDamaged, match=r"search\.faiss cannot be read \(it is"):
        FlatSearch.open(*paths)


@pytest.mark.parametrize("ordinals", [[0, 0], [3, 2], [-1], [9], np.array([[1]]), np.array([1.0])], ids=str)
def test_removed_ordinals_that_cannot_be_are_refused(tmp_path: Path, ordinals: object) -> None:
    (tmp_path / "r").write_bytes(save({"ordinals": np.asarray(ordinals)}))
    with pytest.raises(IndexDamaged, match=r"/r holds ordinals|/r does not hold ordinals"):
        load_removed(tmp_path / "r", (5, 4))
    save_removed(tmp_path / "r", np.array([0, 3, 8]))
    assert load_removed(tmp_path / "r", (5, 4)).tolist() == [0, 3, 8]


@pytest.mark.parametrize("text", [b"", b"no tensors", save({"width": np.array(3)})[:-1], save({"others": np.ones(2)})])
def test_other_files_of_tensors_are_refused_by_name(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "tensors").write_bytes(text)
    with pytest.raises(IndexDamaged, match="/tensors cannot be read"):
        Coder.load(tmp_path / "tensors")
    if b"others" not in text:
        with pytest.raises(IndexDamaged, match="/tensors cannot be read"):
            Projections.load(tmp_path / "tensors")
