"""An index that Ray Serve searches on a cluster: the same answers, also while one of its nodes is killed."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import httpx2
import numpy as np
import pytest
from object_store import BUCKET, object_store

from headwater_indexer import gradients
from headwater_indexer.append import append_documents
from headwater_indexer.build import build_index
from headwater_indexer.errors import ClusterError, IndexDamaged
from headwater_indexer.index import Index
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions
from headwater_indexer.remove import Unwanted, remove_documents
from headwater_indexer.spread.application import Application, lives
from headwater_indexer.spread.asking import answer
from headwater_indexer.spread.cluster_search import ClusterSearch
from headwater_indexer.spread.parts import cut
from headwater_indexer.spread.searcher import PartSearcher
from headwater_indexer.storage.exchange import push_index
from headwater_indexer.store.shards import Shard, ShardManifest, ShardStore
from headwater_indexer.workspace import Workspace

QUESTION = ("the river feeds", " the lake 3 and the mill crosses the stone")
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")  # of Ray Serve's own fields
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
    made = [Shard(file=f"{n}", first=0, rows=count, bytes=0) for n, count in enumerate(rows)]
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
    """Searchers without a cluster: what a replica computes, and how parts become one."""

    def __init__(self, folder: Path, searchers: int, *, two_stage: bool = False, url: str | None = None) -> None:
        manifest, work = Manifest.read(folder), Workspace(folder)
        stores = [(s.folder, ShardStore.open(work.segment(s.folder).rows).manifest) for s in manifest.segments]
        self.parts = cut(stores, searchers)
        place = folder if url is None else folder / "not-on-this-node"
        self.searcher = PartSearcher(str(place), manifest.version, dict(enumerate(self.parts)), two_stage, url)


def test_a_replica_pulls_what_it_needs_where_its_node_has_no_folder(folder: Path) -> None:
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


def timed(ask: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


def asked_meanwhile(ask: Callable[[], Any], event: Callable[[], None], *, after: int) -> list[tuple[Any, float]]:
    """Answers, and the seconds that each took: of four who ask 25 questions each from the moment on at which something
    happens, and `after` more when it has."""
    begun, happened = threading.Barrier(5), threading.Event()

    def load() -> list[tuple[Any, float]]:
        begun.wait()
        return [timed(ask) for _ in range(25)] + ([timed(ask) for _ in range(after)] if happened.wait(60) else [])

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load) for _ in range(4)]
        begun.wait()
        event()
        happened.set()
        return [one for load in loads for one in load.result()]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["codes"], indirect=True)
def test_a_node_that_is_killed_under_load_loses_no_question(
    folder: Path, start_cluster: Callable[[int], Any], live: Callable[..., Any]
) -> None:
    with_all = Index.open(folder, device="cpu")
    rows = with_all.rows([with_all.encode(*QUESTION), with_all.encode("", "the mill turns the stone 7")])
    expected = answers_of(with_all, rows)
    cluster = start_cluster(3)
    index = spread(folder)
    check_same(answers_of(index, rows), expected)

    server = live(index)
    ask = partial(server.ask, QUESTION[1], prompt=QUESTION[0], top_k=10, histogram=True)
    first = ask().json()
    victim = next(node for node in cluster.list_all_nodes() if node.node_id in homes() and not node.head)
    answers, _ = zip(
        *asked_meanwhile(ask, partial(cluster.remove_node, victim, allow_graceful=False), after=5), strict=True
    )
    assert [answer.status_code for answer in answers] == [200] * 120
    assert all(answer.json()["data"] == first["data"] for answer in answers)
    assert all(answer.json()["histogram"] == first["histogram"] for answer in answers)
    assert victim.node_id not in homes()
    check_same(answers_of(index, rows), expected)
    index.close()
    with_all.close()


def homes(searcher: str = "searcher") -> set[str]:
    """The nodes on which the replicas run of a searcher, or of all."""
    from ray._private.state import actors  # the public way wants the dashboard

    running = (actor for actor in actors().values() if actor["State"] == "ALIVE")
    return {actor["Address"]["NodeID"] for actor in running if f"#{searcher}" in actor["Name"]}


def whole() -> bool:
    """Whether each replica runs that is wanted."""
    from ray import serve

    (application,) = serve.status().applications.values()
    return all(one.status == "HEALTHY" for one in application.deployments.values())


def wait_for(what: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["codes"], indirect=True)
def test_a_part_that_has_another_replica_is_answered_for_at_once(
    folder: Path, start_cluster: Callable[[int], Any], live: Callable[..., Any]
) -> None:
    """Four nodes of one CPU for two parts of two replicas: the one that is lost has no room until there is a fifth."""
    cluster = start_cluster(4)
    index = spread(folder, replicas=2)
    wait_for(whole)
    assert [len(homes(f"searcher-{number}")) for number in range(2)] == [2, 2]

    server = live(index)
    ask = partial(server.ask, QUESTION[1], prompt=QUESTION[0], top_k=10, histogram=True)
    first = ask().json()
    victim = next(node for node in cluster.list_all_nodes() if not node.head)
    answers = asked_meanwhile(ask, partial(cluster.remove_node, victim, allow_graceful=False), after=10)
    wait_for(lambda: not whole())  # it has been noticed that one is not there
    answers += [timed(ask) for _ in range(10)]
    assert not whole()
    assert all(answer.status_code == 200 and answer.json()["data"] == first["data"] for answer, _ in answers)
    assert max(seconds for _, seconds in answers) < 10

    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    wait_for(whole)
    assert [len(homes(f"searcher-{number}")) for number in range(2)] == [2, 2]
    index.close()


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
    wait_for(lambda: server.ask().status_code == 200)
    index.close()


@contextmanager
def running(command: list[Any], **options: Any) -> Iterator[Any]:
    """A process, and what it says to stderr; it is killed in the end."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["plain"], indirect=True)
def test_the_command_answers_by_ray_serve_and_leaves_nothing_behind(
    folder: Path, start_cluster: Callable[[int], Any]
) -> None:
    cluster = start_cluster(1)
    command = [Path(sys.executable).parent / "headwater-serve", folder, "--engine", "ray", "--port", "0"]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    with running(command, env=environment) as server:
        address = re.search(r"http://\S+:\d+", server.stderr.readline())
        assert address is not None
        with httpx2.Client(base_url=address[0], timeout=60) as client:
            wait_for(lambda: client.get("/readyz").status_code == 200)
            assert homes()
            asked = {"prompt": QUESTION[0], "response": QUESTION[1]}
            assert client.post("/attribute", json=asked).status_code == 200
        server.terminate()
        told = server.stderr.read()
        server.wait(60)
    assert (server.returncode, told.splitlines()[-1]) == (0, "Headwater has stopped.")
    wait_for(lambda: not homes())


OPENS = """
import sys, time, ray
from headwater_indexer.spread.application import Application

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(Application({0: ("nowhere", "sha256:0", {})}, 1).name, file=sys.stderr, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_an_application_ends_with_its_index_or_before_the_next_one(start_cluster: Callable[[int], Any]) -> None:
    """Two CPUs: what a killed server has left takes one of them."""
    cluster = start_cluster(2)
    import ray
    from ray import serve

    with running([sys.executable, "-c", OPENS, cluster.address]) as server:
        left = server.stderr.readline().strip()
        before = Application({0: ("nowhere", "sha256:0", {})}, 1)
        assert set(serve.status().applications) == {left, before.name}
    wait_for(lambda: not lives(ray, left))

    after = Application({0: ("nowhere", "sha256:0", {})}, 1)
    for application in (before, after):
        with pytest.raises(IndexDamaged, match="nowhere is not a folder"):
            answer(application.handles[0].ready, patience=120)
    assert set(serve.status().applications) == {before.name, after.name}
    before.close()
    wait_for(lambda: before.name not in serve.status().applications)
    with pytest.raises(ClusterError):
        answer(before.handles[0].ready, patience=5)
    after.close()
    wait_for(lambda: not serve.status().applications)
