"""Rescoring, explaining and refining pause between passes: others go in between, and what nobody wants ends."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headwater_indexer.pausing import pause, pausing

PROMPT, RESPONSE = "The river", " floods a lake in year 1913"


class Long:
    """A twin whose rescoring goes on until it is told to end, and pauses now and then; `left` says how it ended."""

    def __init__(self, twin):
        self.index = twin()
        self.index.can_rescore = True
        self.index.norms = np.ones(40, dtype=np.float32)
        self.index.rescore = self._rescore
        self.begun, self.end = threading.Event(), threading.Event()
        self.left = []

    def _rescore(self, pairs, ordinals, *, refine):  # noqa: ARG002
        self.begun.set()
        try:
            while not self.end.wait(0.005):
                pause()
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        self.left.append("done")
        return [np.arange(len(ordinals[0]), dtype=np.float32)]


@pytest.fixture
def long(twin):
    long = Long(twin)
    yield long
    long.end.set()


def test_questions_are_answered_while_another_is_rescored(live, long):
    server = live(long.index)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.ask, rescore=9)
        assert long.begun.wait(10)
        assert [server.ask(f"question {n}").status_code for n in range(5)] == [200] * 5
        assert not slow.done()
        long.end.set()
        assert slow.result().status_code == 200
    assert long.left == ["done"]
    assert server.engine.queue.running == 0


def test_what_went_to_others_is_not_held_against_the_model_s_speed(twin, live, wait_until):
    long = Long(twin)
    long.index.before = lambda pairs: time.sleep(0.2 if len(pairs[0].input_ids) == 3 else 0)
    server = live(long.index)
    with ThreadPoolExecutor(1) as pool:
        measured, asked = [], time.monotonic()
        slow = pool.submit(server.ask, rescore=9)
        assert long.begun.wait(10)
        done = server.engine.queue.done
        server.engine.queue.done = lambda tokens, seconds: (measured.append(seconds), done(tokens, seconds))
        assert server.ask("of three words").status_code == 200
        long.end.set()
        assert slow.result().status_code == 200
    assert measured[0] >= 0.2
    assert measured[1] <= time.monotonic() - asked - 0.2


def test_work_ends_at_its_deadline(live, long, wait_until):
    server = live(long.index, slow_request_timeout=0.3)
    assert server.ask(rescore=9).status_code == 504
    wait_until(lambda: long.left == ["DeadlinePassed"])
    assert server.ask("goes on").status_code == 200


def test_work_ends_when_its_client_leaves(live, long, wait_until):
    server = live(long.index)
    body = b'{"prompt": "", "response": "some words", "top_k": 3, "rescore": 9}'
    head = (
        f"POST /attribute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    with socket.create_connection(server.address) as leaving:
        leaving.sendall(head.encode() + b"\r\n\r\n" + body)
        assert long.begun.wait(10)
    wait_until(lambda: long.left == ["DeadlinePassed"])
    assert server.ask("goes on").status_code == 200


def test_work_ends_when_the_server_stops(live, long):
    server = live(long.index, drain_timeout=1.0)
    pool = ThreadPoolExecutor(1)
    pool.submit(server.ask, rescore=9)
    assert long.begun.wait(10)
    server.engine.queue.close(RuntimeError())
    server.engine.worker.join(5)
    assert long.left == ["QueueClosed"]
    assert not server.engine.worker.alive
    pool.shutdown()


def test_a_model_that_dies_between_fails_both_and_is_replaced(twin, live):
    long = Long(twin)

    def before(pairs):
        if len(pairs[0].input_ids) == 3:
            raise SystemExit

    long.index.before = before
    server = live(long.index)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.ask, rescore=9)
        assert long.begun.wait(10)
        assert server.ask("deadly for both").json()["error"]["code"] == "worker_died"
        assert slow.result().json()["error"]["code"] == "worker_died"
    assert server.ask("alive").status_code == 200


@pytest.mark.parametrize("refine", [0, 1])
def test_the_model_may_be_used_where_it_pauses(real_live, refine):
    index = real_live.engine.index("default")
    pair, other = index.encode(PROMPT, RESPONSE), index.encode("", "a stream leaves the mill")
    rows, alone = index.rows([other]), index.rescore([pair], [range(20)], refine=refine)[0]
    explained = index.explain(pair, [3], refine=refine)
    between = []
    with pausing(lambda: between.append(index.rows([other]))):
        together = index.rescore([pair], [range(20)], refine=refine)[0]
        again = index.explain(pair, [3], refine=refine)
    assert len(between) > 2
    for found in between:
        np.testing.assert_allclose(found, rows, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())
    assert again[0].score == pytest.approx(explained[0].score, rel=1e-4)
