"""A build on a Ray cluster makes the folder that one machine makes, also when a node is killed in the middle of it."""

import builtins
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater_indexer import gradients
from headwater_indexer.build import build_index
from headwater_indexer.coded_search import coded_store
from headwater_indexer.codes.coder import Coder
from headwater_indexer.documents import DocumentStore
from headwater_indexer.engines.options import EngineOptions
from headwater_indexer.engines.ray import RayEngine
from headwater_indexer.errors import ClusterError, MissingPackage, UsageError
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions
from headwater_indexer.progress import Silent, Step
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace

ray = pytest.importorskip("ray", reason="Ray has no wheel for this Python: builds on clusters are not tested")

PLAIN = BuildOptions(rank=6)
CODES = BuildOptions(rank=6, bits=4)
RAY = EngineOptions(engine="ray")
SHARD = 16  # documents


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut by the driver: some are captured for the Hessian first, the others only once."""
    monkeypatch.setattr(gradients, "SHARD_DOCUMENTS", (SHARD, SHARD))
    monkeypatch.setattr(gradients, "HESSIAN_DOCUMENTS", 3 * SHARD)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[RayEngine]:
    """Those that were used, to look at afterwards."""
    made: list[RayEngine] = []
    close = RayEngine.close
    monkeypatch.setattr(RayEngine, "close", lambda self: (made.append(self), close(self))[1])
    return made


def products(folder: Path) -> np.ndarray:
    """The inner products of all rows, which do not depend on how the Hessian's eigenvectors are turned."""
    work, manifest = Workspace(folder), Manifest.read(folder)
    if manifest.rows.bits == 32:
        rows = np.concatenate(list(ShardStore.open(work.rows)))
    else:
        coder = Coder.load(work.coder)
        rows = coder.decode(np.concatenate(list(coded_store(work, coder))))
    return rows @ rows.T


def check_same(spread: Path, alone: Path, *, within: float) -> None:
    """The same documents in the same files, and rows that differ by rounding at most: products of matrices are rounded
    by where they lie in memory, so that two builds by one process need not be alike to the last bit either."""
    ours, theirs = Manifest.read(spread), Manifest.read(alone)
    assert [(file.path, file.bytes) for file in ours.segments[0].files if file.path.endswith(".h5")] == [
        (file.path, file.bytes) for file in theirs.segments[0].files if file.path.endswith(".h5")
    ]
    assert (ours.documents, ours.tokens, ours.layers) == (theirs.documents, theirs.tokens, theirs.layers)
    with DocumentStore(spread / "documents.sqlite") as mine, DocumentStore(alone / "documents.sqlite") as other:
        assert list(mine) == list(other)
    found, expected = products(spread), products(alone)
    assert np.linalg.norm(found - expected) < within * np.linalg.norm(expected)


@pytest.fixture
def this_machine() -> Iterator[None]:
    """A cluster of this machine alone."""
    ray.init(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
def test_a_cluster_builds_what_one_machine_builds(
    this_machine: None, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path, engines: list[RayEngine]
) -> None:
    build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "alone", CODES)
    build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "spread", CODES, engine=RAY)
    check_same(tmp_path / "spread", tmp_path / "alone", within=1e-3)  # a value between two codes may take the other
    assert [(engine.workers, engine.pool.replaced) for engine in engines] == [(2, 0)]
    # In the same cluster, which takes seconds to start.
    with pytest.raises(ClusterError, match=r"no room for a worker with 1 CPU and 7 GPUs \(it has 2 CPUs, 0 GPUs\)"):
        build_index(
            str(checkpoint_folder),
            str(corpus_file),
            tmp_path / "none",
            CODES,
            engine=EngineOptions(engine="ray", gpus_per_worker=7),
        )


class Watcher(Silent):
    """Calls what belongs to a step once, after so many of its advances."""

    def __init__(self, acts: dict[str, tuple[int, Callable[[], None]]]) -> None:
        self.acts = acts
        self.done: list[str] = []

    def step(self, name: str, total: int | None, unit: str) -> Step:
        return _Watched(self, name) if name in self.acts else super().step(name, total, unit)


class _Watched:
    def __init__(self, watcher: Watcher, name: str) -> None:
        self.watcher, self.name = watcher, name
        self.left, self.act = watcher.acts[name]

    def __enter__(self) -> "_Watched":
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, count: int) -> None:  # noqa: ARG002 - the Step interface
        self.left -= 1
        if self.left == 0:
            self.act()
            self.watcher.done.append(self.name)


@pytest.mark.slow
def test_nodes_that_are_killed_in_the_middle_of_a_build_change_nothing(
    start_cluster: Callable[[int], Any],
    checkpoint_folder: Path,
    large_corpus_file: Path,
    tmp_path: Path,
    engines: list[RayEngine],
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(large_corpus_file.read_text().splitlines(keepends=True)[: 40 * SHARD]))
    build_index(str(checkpoint_folder), str(corpus), tmp_path / "alone", PLAIN)
    cluster = start_cluster(3)
    _, first, second = cluster.list_all_nodes()
    kills = {
        "gradients": (1, lambda: cluster.remove_node(first, allow_graceful=False)),
        "rows": (4, lambda: cluster.remove_node(second, allow_graceful=False)),
    }
    watcher = Watcher(kills)
    build_index(str(checkpoint_folder), str(corpus), tmp_path / "spread", PLAIN, engine=RAY, progress=watcher)
    assert watcher.done == ["gradients", "rows"]
    check_same(tmp_path / "spread", tmp_path / "alone", within=1e-5)
    [engine] = engines
    assert engine.workers == 3
    assert engine.pool.replaced >= 2


def test_ray_that_is_not_installed_is_told_before_the_work(
    monkeypatch: pytest.MonkeyPatch, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackage, match=r"pip install 'headwater\[ray\]'"):
        build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "index", CODES, engine=RAY)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"engine": "spark"}, "--engine spark: choose local or ray"),
        ({"engine": "ray", "workers": 0}, "--workers 0"),
        ({"workers": 2}, "are for --engine ray"),
    ],
)
def test_options_that_no_cluster_can_give(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        EngineOptions(**options)
