"""Under overload: refused before parsing, still behind the keys, and counted under its route."""

import inspect
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from headwater_server.errors import QueueFull
from headwater_server.queue import GradientQueue


@contextmanager
def full(live, twin, wait_until, headers=None, **settings):
    """A server that holds one question in its model and one in its queue of one."""
    go_on = threading.Event()
    server = live(twin(before=lambda pairs: go_on.wait(20) if len(pairs[0].input_ids) == 3 else None), **settings)
    server.client.headers.update(headers or {})
    body = {"prompt": "", "response": "held for long", "top_k": 3}
    with ThreadPoolExecutor(2) as pool:
        try:
            server.client.headers["content-type"] = "application/json"
            asked = [pool.submit(server.client.post, "/attribute", json=body)]
            wait_until(lambda: server.engine.queue.running == 1)
            asked.append(pool.submit(server.client.post, "/attribute", json=body))
            wait_until(lambda: server.engine.queue.waiting[0] == 1)
            yield server
        finally:
            go_on.set()
        assert [one.result().status_code for one in asked] == [200, 200]


def test_a_full_queue_refuses_before_it_parses_and_counts_by_route(twin, live, wait_until):
    with full(live, twin, wait_until, max_queue_requests=1) as server:
        refused = server.client.post("/v1/attribute", content=b"this is no JSON")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-content-type-options"] == "nosniff"
        lines = server.client.get("/metrics").text.splitlines()
    assert 'http_requests_total{method="POST",route="/v1/attribute",status="429"} 1.0' in lines
    assert 'headwater_request_failure_total{reason="queue_full"} 1.0' in lines
    assert server.client.post("/v1/attribute", content=b"this is no JSON").status_code == 400


def test_without_a_key_a_full_queue_is_not_told(twin, live, wait_until):
    key = "a-key-of-enough-characters"
    bearer = {"Authorization": f"Bearer {key}"}
    with full(live, twin, wait_until, headers=bearer, max_queue_requests=1, api_keys=(key,)) as server:
        assert server.client.post("/attribute", json={}).status_code == 429
        assert server.client.post("/attribute", json={}, headers={"Authorization": "Bearer no"}).status_code == 401


def test_questions_on_their_way_to_the_queue_hold_room_in_it():
    queue = GradientQueue(max_tokens=100, max_requests=2, max_batch_tokens=100)
    with queue.arriving(), queue.arriving(), pytest.raises(QueueFull):
        queue.check_room()
    queue.check_room()


def test_no_refusal_waits_for_a_thread(twin, live):
    handlers = live(twin()).server.config.app.exception_handlers.values()
    assert len(handlers) > 10
    assert all(inspect.iscoroutinefunction(handler) for handler in handlers)


def test_the_answers_of_a_batch_are_told_by_few_threads_at_a_time(twin, live):
    index, reading, most = twin(), [], []

    def slowly(ordinals, read=index.documents.by_ordinal):
        reading.append(1)
        most.append(len(reading))
        time.sleep(0.02)
        reading.pop()
        return read(ordinals)

    index.documents.by_ordinal = slowly
    server = live(index)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.ask(), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert max(most) == 2


def test_many_refusals_are_summed_up_in_the_log(twin, live, wait_until, caplog):
    caplog.set_level(logging.INFO, logger="headwater.access")
    with full(live, twin, wait_until, max_queue_requests=1) as server:
        began = time.monotonic()
        for _ in range(60):
            assert server.client.post("/v1/attribute", content=b"").status_code == 429
        said = [record.getMessage() for record in caplog.records]
        assert 10 <= len([line for line in said if " 429 " in line]) <= 10 * (time.monotonic() - began + 2)
        wait_until(lambda: any("more requests were refused with 429" in one.getMessage() for one in caplog.records))
        assert "60.0" in server.client.get("/metrics").text.partition('route="/v1/attribute",status="429"}')[2][:6]
