"""An index that actors of a Ray cluster search: the same answers, also while one of their nodes is killed."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from object_store import BUCKET, object_store

from headwater_indexer import gradients
from headwater_indexer.append import append_documents
from headwater_indexer.build import build_index
from headwater_indexer.errors import IndexDamaged
from headwater_indexer.index import Index
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions
from headwater_indexer.remove import Unwanted, remove_documents
from headwater_indexer.spread.cluster_search import ClusterSearch
from headwater_indexer.spread.parts import cut
from headwater_indexer.spread.searcher import PartSearcher
from headwater_indexer.storage.exchange import push_index
from headwater_indexer.store.shards import Shard, ShardManifest, ShardStore
from headwater_indexer.workspace import Workspace

QUESTION = ("the river feeds", " the lake 3 and the mill crosses the stone")
KINDS = {"plain": BuildOptions(rank=6), "codes": BuildOptions(rank=6, bits=4)}


@pytest.fixture(scope="module", params=KINDS)
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path
) -> Iterator[Path]:
    """An index of two segments in shards of 16 documents, some of them removed."""
    place = tmp_path_factory.mktemp("spread")
    lines = corpus_file.read_text().splitlines(keepends=True)
    (place / "first.jsonl").write_text("".join(lines[:90]))
    (place / "second.jsonl").write_text("".join(lines[90:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "SHARD_DOCUMENTS", (16, 16))
        build_index(str(checkpoint_folder), str(place / "first.jsonl"), place / "i", KINDS[request.param])
        append_documents(place / "i", [str(place / "second.jsonl")])
    remove_documents(place / "i", Unwanted(ids=["doc-003", "doc-095"]))
    return place / "i"


def shards(*rows: int) -> ShardManifest:
    made = [Shard(file=f"{n}", first=0, rows=count, bytes=0, sha256="") for n, count in enumerate(rows)]
    return ShardManifest(width=1, shards=tuple(made))


def test_parts_are_alike_and_in_the_order_of_the_documents() -> None:
    parts = cut([(".", shards(16, 16, 16, 16, 16, 10)), ("segments/2", shards(16, 14))], 2)
    assert [(part.searcher, part.segment, part.shards, part.rows) for part in parts] == [
        (0, ".", range(4), 64),
        (1, ".", range(4, 6), 26),
        (1, "segments/2", range(2), 30),
    ]
    assert [part.searcher for part in cut([(".", shards(5))], 3)] == [1]


class InThisProcess:
    """Searchers without a cluster: what an actor computes, and how parts become one."""

    def __init__(self, folder: Path, searchers: int, *, two_stage: bool = False, url: str | None = None) -> None:
        manifest, work = Manifest.read(folder), Workspace(folder)
        stores = [(s.folder, ShardStore.open(work.segment(s.folder).rows).manifest) for s in manifest.segments]
        self.parts = cut(stores, searchers)
        place = folder if url is None else folder / "not-on-this-node"
        self.searcher = PartSearcher(str(place), manifest.version, dict(enumerate(self.parts)), two_stage, url)


def test_an_actor_pulls_what_it_needs_where_its_node_has_no_folder(folder: Path) -> None:
    with object_store() as known, pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        push_index(folder, f"s3://{BUCKET}/spread")
        near, far = InThisProcess(folder, 2), InThisProcess(folder, 2, url=f"s3://{BUCKET}/spread")
        for number in range(len(near.parts)):
            assert np.array_equal(near.searcher.norms(number), far.searcher.norms(number))
        stale = PartSearcher("nowhere", "sha256:0", dict(enumerate(near.parts)), url=f"s3://{BUCKET}/spread")
        with pytest.raises(IndexDamaged, match="has another version"):
            stale.ready()


def answers_of(index: Index, rows: np.ndarray) -> list[Any]:
    among = np.arange(3, 100, 7)
    found: list[Any] = [index.influences(rows), index.influences(rows, among), index.norms]
    for score in ("relatif", "influence", "cosine"):
        for sign in ("positive", "negative"):
            for chosen in (None, among):
                found += index.search(rows, top_k=15, score=score, sign=sign, among=chosen)
    return found


def check_same(found: list[Any], expected: list[Any]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        if isinstance(ours, np.ndarray):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        else:
            assert [(hit.ordinal, hit.percentile) for hit in ours] == [(hit.ordinal, hit.percentile) for hit in theirs]
            np.testing.assert_allclose([hit.score for hit in ours], [hit.score for hit in theirs], rtol=1e-5)


def spread(folder: Path, **options: Any) -> Index:
    given = {"searchers": 2, "patience": 60.0} | options
    return Index.open(folder, device="cpu", spread=lambda *what: ClusterSearch(*what[:3], **given))


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["codes"], indirect=True)
def test_a_node_that_is_killed_under_load_loses_no_question(
    folder: Path, start_cluster: Callable[[int], Any], live: Callable[..., Any]
) -> None:
    import ray

    with_all = Index.open(folder, device="cpu")
    rows = with_all.rows([with_all.encode(*QUESTION), with_all.encode("", "the mill turns the stone 7")])
    expected = answers_of(with_all, rows)
    cluster = start_cluster(3)
    index = spread(folder)
    check_same(answers_of(index, rows), expected)

    server = live(index)
    ask = partial(server.ask, QUESTION[1], prompt=QUESTION[0], top_k=10, histogram=True)
    first = ask().json()
    killed, asked = threading.Event(), threading.Barrier(5)

    def load() -> list[Any]:
        asked.wait()
        return [ask() for _ in range(25)] + ([ask() for _ in range(5)] if killed.wait(60) else [])

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load) for _ in range(4)]
        asked.wait()
        victim = next(node for node in cluster.list_all_nodes() if node.node_id in homes(ray) and not node.head)
        cluster.remove_node(victim, allow_graceful=False)
        killed.set()
        answers = [answer for load in loads for answer in load.result()]
    assert [answer.status_code for answer in answers] == [200] * 120
    assert all(answer.json()["data"] == first["data"] for answer in answers)
    assert all(answer.json()["histogram"] == first["histogram"] for answer in answers)
    assert victim.node_id not in homes(ray)
    check_same(answers_of(index, rows), expected)
    index.close()
    with_all.close()


def homes(ray: Any) -> set[str]:
    """The nodes on which actors run."""
    from ray._private.state import actors  # the public way wants the dashboard

    return {actor["Address"]["NodeID"] for actor in actors().values() if actor["State"] == "ALIVE"}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["plain"], indirect=True)
def test_a_part_that_has_no_node_left_is_503_until_there_is_one(
    folder: Path, start_cluster: Callable[[int], Any], live: Callable[..., Any]
) -> None:
    cluster = start_cluster(2)
    index = spread(folder, patience=3.0)
    server = live(index)
    assert server.ask().status_code == 200
    cluster.remove_node(next(node for node in cluster.list_all_nodes() if not node.head), allow_graceful=False)
    refused = next(answer for answer in (server.ask() for _ in range(1000)) if answer.status_code != 200)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shard_unavailable")
    assert refused.headers["Retry-After"] == "1"
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    answers = [server.ask() for _ in range(20)]
    assert answers[-1].status_code == 200
    index.close()
