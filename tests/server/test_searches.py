"""Rows that wait for a search are searched together, each with its own answer, and hold room until then."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from headwater_indexer.search import Hit
from headwater_server.entries import Entry
from headwater_server.errors import QueueFull
from headwater_server.queue import SEARCHED_AHEAD, TURNS, GradientQueue
from headwater_server.searches import Searches, Wanted
from headwater_server.threads import Threads


class Ranked:
    """A real ranking of ten documents by inner product; notes how many rows each pass had."""

    def __init__(self):
        self.passes = []
        self.vectors = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def search(self, rows, *, top_k, score, sign, among=None):  # noqa: ARG002  an index's own arguments
        self.passes.append(len(rows))
        self.begun.set()
        assert self.go_on.wait(10)
        if not np.isfinite(rows).all():
            raise FloatingPointError("rows that are not finite")
        chosen = np.arange(10) if among is None else among
        scores = rows @ self.vectors[chosen].T * (1 if sign == "positive" else -1)
        return [
            [Hit(ordinal=int(chosen[n]), score=float(row[n]), percentile=0.0) for n in np.argsort(-row)[:top_k]]
            for row in scores
        ]


def asked(index, *wanted, leave=()):
    """All at once, the first before the others; a pass is held until all wait. Those of `leave` are cancelled."""
    told = []

    async def ask():
        threads = Threads()
        searches = Searches(threads, on_search=lambda count, _: told.append(count), clock=time.monotonic)
        tasks = [asyncio.create_task(searches.find(index, wanted[0]))]
        while not index.begun.is_set():
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(searches.find(index, one)) for one in wanted[1:]]
        await asyncio.sleep(0.02)
        for position in leave:
            tasks[position].cancel()
        index.go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        threads.close()
        return found

    return asyncio.run(ask()), told


def row(number):
    return np.random.default_rng(number).standard_normal(4).astype(np.float32)


def test_rows_that_wait_are_searched_in_one_pass_and_each_gets_its_own():
    index = Ranked()
    wanted = [Wanted(row(n), top_k=1 + n, score="relatif", sign="positive") for n in range(6)]
    found, told = asked(index, *wanted)
    assert index.passes == told == [1, 5]
    for one, hits in zip(wanted, found, strict=True):
        [alone] = index.search(one.row[None], top_k=one.top_k, score="relatif", sign="positive")
        assert [hit.ordinal for hit in hits] == [hit.ordinal for hit in alone]


def test_other_signs_and_filters_are_searched_apart():
    index = Ranked()
    found, told = asked(
        index,
        Wanted(row(0), top_k=2, score="relatif", sign="positive"),
        Wanted(row(0), top_k=2, score="relatif", sign="negative"),
        Wanted(row(0), top_k=2, score="relatif", sign="positive", among=np.array([3])),
    )
    assert told == [1, 1, 1]
    assert found[0][0].ordinal != found[1][0].ordinal
    assert [hit.ordinal for hit in found[2]] == [3]


def test_who_leaves_is_not_searched_for_and_holds_nobody_up():
    index = Ranked()
    wanted = [Wanted(row(n), top_k=2, score="relatif", sign="positive") for n in range(4)]
    found, _ = asked(index, *wanted, leave=(0, 2))
    assert index.passes == [1, 2]
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [True, False, True, False]


def test_a_pass_that_fails_is_told_to_each_of_its_questions():
    index = Ranked()
    bad = Wanted(np.full(4, np.nan, dtype=np.float32), top_k=2, score="relatif", sign="positive")
    found, _ = asked(index, Wanted(row(0), top_k=2, score="relatif", sign="positive"), bad, bad)
    assert len(found[0]) == 2
    assert [type(one) for one in found[1:]] == [FloatingPointError] * 2


def test_a_question_holds_room_while_it_is_searched():
    queue = GradientQueue(max_tokens=100, max_requests=2, max_batch_tokens=100)
    queue.searched(4, 20.0)
    batch = computed(queue, 2)
    with pytest.raises(QueueFull) as full:
        queue.check_room()
    assert full.value.retry_after == 10  # two that are searched, five seconds each
    queue.let_go(batch[0])
    queue.check_room()


def test_a_question_that_leaves_the_model_s_hands_unwanted_is_not_waited_for():
    queue = GradientQueue(max_tokens=100, max_requests=2, max_batch_tokens=100)
    queue.searched_ahead = TURNS
    queue.put(entry())
    [left] = queue.take()
    queue.let_go(left)
    queue.finished([left])
    assert len(computed(queue, 1)) == 1  # or `take` would block


INDEX = object()


def entry():
    return Entry(index=INDEX, pair=SimpleNamespace(input_ids=[1, 2, 3]), deadline=float("inf"), searched=True)


def computed(queue, count):
    """So many questions whose rows are made and not yet searched."""
    for _ in range(count):
        queue.put(entry())
    batch = queue.take()
    assert len(batch) == count
    queue.finished(batch)
    return batch


def test_slow_searches_do_not_pile_up_behind_the_model(twin, live, wait_until):
    go_on = threading.Event()

    class Slow(twin):
        def search(self, *args, **kwargs):
            assert go_on.wait(20)
            return super().search(*args, **kwargs)

    server = live(Slow(), max_queue_requests=2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.ask, "one")
        second = pool.submit(server.ask, "two")
        wait_until(lambda: server.engine.queue.waiting[0] == 0 and len(server.engine.queue._searching) == 2)
        refused = server.ask("three")
        go_on.set()
        assert first.result().status_code == second.result().status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")


@pytest.mark.parametrize("ahead", [SEARCHED_AHEAD, TURNS])
def test_the_model_waits_while_rows_are_not_searched(ahead):
    queue = GradientQueue(max_tokens=1000, max_requests=1000, max_batch_tokens=1000)
    queue.searched_ahead = ahead
    batch = computed(queue, ahead)
    queue.put(entry())
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(queue.take)
        with pytest.raises(TimeoutError):
            taken.result(timeout=0.1)
        queue.let_go(batch[0])
        assert len(taken.result(timeout=5)) == 1


def test_where_model_and_search_share_their_cores_they_take_turns(real_live):
    assert real_live.engine.queue.searched_ahead == TURNS
