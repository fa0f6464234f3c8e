"""Faults for real: processes that are killed, a model's thread that dies, a disk that is gone, clients that vanish."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
import torch

from headwater_indexer.index import Index

# The command itself, around a model whose thread ends at a long prompt.
DEADLY = """
from headwater_indexer.index import Index
from headwater_server.cli import main

compute = Index.rows
def rows(self, pairs):
    if any(pair.prompt_tokens > 20 for pair in pairs):
        raise SystemExit
    return compute(self, pairs)
Index.rows = rows
main()
"""
KEY = "a-key-that-no-log-may-hold"
QUESTION = {"prompt": "The river", "response": " floods a lake", "top_k": 5}


@contextmanager
def process(code, *arguments):
    started = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HEADWATER_API_KEYS": KEY},
    )
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+", started.stderr.readline())[0]
        with httpx2.Client(base_url=address, timeout=60, headers={"Authorization": f"Bearer {KEY}"}) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.05)
            yield started, client
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


def test_a_model_thread_that_dies_twice_ends_the_process_with_1(index_folder):
    arguments = (index_folder, "--port", "0", "--device", "cpu", "--log-format", "json", "--log-level", "debug")
    with process(DEADLY, *arguments) as (server, client):
        deadly = QUESTION | {"prompt": "The river " * 15}
        first = client.post("/attribute", json=deadly)
        assert (first.status_code, first.json()["error"]["code"]) == (503, "worker_died")
        assert client.post("/attribute", json=QUESTION).status_code == 200
        with ThreadPoolExecutor(8) as pool:
            last = list(pool.map(lambda _: _status(client, deadly), range(8)))
        assert server.wait(30) == 1
        assert set(last) <= {503, None}  # None: the process had gone already
        told = server.stderr.read()
    assert "the model's thread died" in told
    assert "floods" not in told
    assert KEY not in told
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    asked = [line for line in lines if line.get("route") == "/attribute"]
    assert [line["status"] for line in asked][:2] == [503, 200]
    assert all(len(line["request_id"]) == 32 and line["ms"] >= 0 for line in asked)


def _status(client, question):
    try:
        return client.post("/attribute", json=question).status_code
    except httpx2.TransportError:
        return None


@pytest.mark.slow
def test_after_kill_9_under_load_the_next_process_serves_the_same(index_folder):
    code = "from headwater_server.cli import main; main()"
    with process(code, index_folder, "--port", "0", "--device", "cpu") as (server, client):
        before = client.post("/attribute", json=QUESTION).json()
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(_status, client, QUESTION) for _ in range(60)]
            asked[5].result()
            server.send_signal(signal.SIGKILL)
            outcomes = [one.result(timeout=30) for one in asked]
    assert set(outcomes) <= {200, None}
    with process(code, index_folder, "--port", client.base_url.port, "--device", "cpu") as (_, again):
        after = again.post("/attribute", json=QUESTION).json()
    assert after["index"] == before["index"]
    assert [one["document_id"] for one in after["data"]] == [one["document_id"] for one in before["data"]]


def test_a_disk_that_is_gone_is_told_and_does_not_stop_the_server(index_folder, tmp_path, live):
    shutil.copytree(index_folder, tmp_path / "index")
    server = live(lambda: Index.open(tmp_path / "index", device="cpu"))
    assert server.ask(" floods a lake").status_code == 200
    with (tmp_path / "index" / "documents.sqlite").open("r+b") as file:
        file.truncate(4096)
    refused = server.ask(" floods a lake", top_k=60)  # some of them may still lie in SQLite's own memory
    assert (refused.status_code, refused.json()["error"]["code"]) == (500, "index_damaged")
    assert str(tmp_path) not in refused.text
    assert server.client.get("/readyz").status_code == 200


def test_an_index_whose_opening_ends_its_thread_fails_the_server_instead_of_loading_for_ever(live, wait_until):
    def opens_to_its_end():
        raise SystemExit

    server = live(opens_to_its_end, wait=False)
    wait_until(lambda: server.engine.state == "failed")
    assert isinstance(server.engine.failure, SystemExit)


class Gate:
    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, pairs):
        if sum(map(ord, "held")) in pairs[0].input_ids:
            self.entered.set()
            assert self.open.wait(20)


def post(address, body):
    connection = socket.create_connection(address, timeout=20)
    head = "POST /attribute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_a_client_that_leaves_while_the_model_works_costs_nobody_else_the_answer(twin, live, wait_until):
    gate = Gate()
    server = live(twin(before=gate))
    connection = post(server.address, json.dumps({"prompt": "", "response": "held", "top_k": 3}).encode())
    assert gate.entered.wait(10)
    connection.close()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, "next")
        wait_until(lambda: server.engine.queue.waiting[0] == 1)
        gate.open.set()
        assert asked.result().status_code == 200
    assert server.engine.worker.restarts == 0
    wait_until(lambda: server.engine.queue.running == 0)


def test_a_jump_of_the_wall_clock_changes_no_deadline(twin, live, monkeypatch, wait_until):
    gate = Gate()
    server = live(twin(before=gate), request_timeout=20)
    real = time.time
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, "held")
        assert gate.entered.wait(10)
        for days in (400, -400):
            monkeypatch.setattr(time, "time", lambda days=days: real() + 86_400 * days)
            assert server.client.get("/livez").status_code == 200
        gate.open.set()
        assert asked.result().status_code == 200


def test_the_allocator_s_own_words_are_taken_for_out_of_memory(twin, live):
    """An allocation that no machine can make, by torch itself: not an error that a test made up."""

    def before(pairs):
        if any(sum(map(ord, "huge")) in pair.input_ids for pair in pairs):
            torch.empty(1 << 55, dtype=torch.uint8)

    server = live(twin(before=before))
    refused = server.ask("a huge one")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "out_of_memory")
    assert server.ask("a small one").status_code == 200
