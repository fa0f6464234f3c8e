"""Under load and in trouble: refusals, deadlines, clients that leave, a model that dies, draining."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest


class Gate:
    """Holds the model's thread until it is opened, so that what waits can be looked at."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, pairs):
        if sum(map(ord, "held")) in pairs[0].input_ids:
            self.entered.set()
            assert self.open.wait(20)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


def held(pool, server, gate):
    """A question that the model has in its hands."""
    asked = pool.submit(server.ask, "held")
    assert gate.entered.wait(10)
    return asked


def test_a_full_queue_gives_429_with_whole_seconds(twin, live, gate, wait_until):
    server = live(twin(before=gate), max_queue_requests=2)
    with ThreadPoolExecutor(3) as pool:
        asked = [held(pool, server, gate), *(pool.submit(server.ask, "waits") for _ in range(2))]
        wait_until(lambda: server.engine.queue.waiting[0] == 2)
        refused = server.ask("too many")
        gate.open.set()
        assert [one.result().status_code for one in asked] == [200, 200, 200]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "queue_full"
    assert refused.json()["error"]["type"] == "rate_limit_error"


def test_retry_after_tells_the_measured_speed(twin, live, gate, wait_until):
    server = live(twin(before=gate), max_queue_tokens=100)
    with ThreadPoolExecutor(2) as pool:
        first = held(pool, server, gate)
        server.engine.queue._tokens_per_second = 10.0
        second = pool.submit(server.ask, "word " * 100)
        wait_until(lambda: server.engine.queue.waiting[1] == 100)
        refused = server.ask("one more")
        gate.open.set()
        assert first.result().status_code == second.result().status_code == 200
    assert refused.headers["retry-after"] == "11"  # 100 that wait and 1 under way, by 10 a second


def test_the_deadline_gives_504_and_the_server_goes_on(twin, live, gate):
    index = twin(before=gate)
    server = live(index, request_timeout=0.3)
    late = server.ask("held")
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_passed")
    late = server.ask("waits")  # behind the one that is held: it must not be computed after its time
    assert late.status_code == 504
    gate.open.set()
    assert server.ask("three words now").status_code == 200
    assert index.batches[2:] == [[1], [3]]  # after the two of the warm-up


def test_a_client_that_leaves_is_taken_out_of_the_queue(twin, live, gate, wait_until):
    index = twin(before=gate)
    server = live(index)
    with ThreadPoolExecutor(1) as pool:
        first = held(pool, server, gate)
        body = b'{"prompt": "", "response": "a question of five words", "top_k": 3}'
        with socket.create_connection(server.address) as leaving:
            head = (
                "POST /attribute HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}"
            )
            leaving.sendall(head.encode() + b"\r\n\r\n" + body)
            wait_until(lambda: server.engine.queue.waiting[0] == 1)
        wait_until(lambda: server.engine.queue.waiting[0] == 0 or _cancelled(server))
        gate.open.set()
        assert first.result().status_code == 200
    assert server.ask("six words that are then asked").status_code == 200
    assert [5] not in index.batches


def _cancelled(server):
    return all(entry.answer.cancelled() for entry in list(server.engine.queue._waiting))


def test_one_bad_question_in_a_batch_gets_its_own_error(twin, live, gate, wait_until):
    def before(pairs):
        gate(pairs)
        if any(sum(map(ord, "broken")) in pair.input_ids for pair in pairs):
            raise FloatingPointError("secret text of the question")

    server = live(twin(before=before))
    with ThreadPoolExecutor(3) as pool:
        first = held(pool, server, gate)
        good, bad = pool.submit(server.ask, "whole"), pool.submit(server.ask, "broken")
        wait_until(lambda: server.engine.queue.waiting[0] == 2)
        gate.open.set()
        assert [first.result().status_code, good.result().status_code] == [200, 200]
    assert bad.result().status_code == 500
    assert bad.result().headers["content-type"] == "application/problem+json"
    assert "secret" not in bad.result().text
    assert bad.result().headers["x-content-type-options"] == "nosniff"


def test_a_worker_that_dies_is_replaced_once_and_then_the_server_stops(twin, live, wait_until):
    def before(pairs):
        if sum(map(ord, "deadly")) in pairs[0].input_ids:
            raise SystemExit

    server = live(twin(before=before))
    first = server.ask("deadly")
    assert (first.status_code, first.json()["error"]["code"]) == (503, "worker_died")
    assert server.ask("alive").status_code == 200
    assert server.client.get("/readyz").status_code == 200
    assert server.ask("deadly").status_code == 503
    wait_until(lambda: server.engine.state == "failed")
    assert server.engine.checks()["model_worker_alive"] is False
    wait_until(lambda: _refused(server.address))  # the process would now end with a status that is not 0


def _refused(address):
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return True
    return False


def test_while_loading_questions_get_503_and_readyz_names_why(twin, live, wait_until):
    loaded = threading.Event()

    def slow_open():
        loaded.wait(20)
        return twin()

    server = live(slow_open, wait=False)
    assert server.client.get("/livez").status_code == 200
    for answer in (server.ask(), server.client.get("/v1/indexes"), server.client.get("/v1/documents/x")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "loading")
        assert answer.headers["retry-after"] == "1"
    ready = server.client.get("/readyz")
    assert ready.status_code == 503
    assert "indexes_loaded" in ready.json()["detail"]
    loaded.set()
    wait_until(lambda: server.client.get("/readyz").status_code == 200)
    assert server.ask().status_code == 200


def test_draining_answers_what_was_taken_and_nothing_new(twin, live, gate):
    server = live(twin(before=gate))
    with ThreadPoolExecutor(1) as pool:
        taken = held(pool, server, gate)
        server.engine.drain()
        assert server.ask().json()["error"]["code"] == "draining"
        assert "not_draining" in server.client.get("/readyz").json()["detail"]
        gate.open.set()
        assert taken.result().status_code == 200


def test_a_slow_search_does_not_hold_up_the_event_loop(twin, live):
    class Slow(twin):
        def search(self, *args, **kwargs):
            time.sleep(0.6)
            return super().search(*args, **kwargs)

    server = live(Slow())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask)
        time.sleep(0.1)
        began = time.monotonic()
        assert server.client.get("/livez").status_code == 200
        assert time.monotonic() - began < 0.4
        assert asked.result().status_code == 200
