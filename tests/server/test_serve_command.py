"""The command as a process of its own: exit codes, sentences, and SIGTERM."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

COMMAND = str(Path(sys.executable).parent / "headwater-serve")


def run(*arguments, **environment):
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
    )


@contextmanager
def serving(*arguments):
    """The process and its address, once it says where it listens."""
    process = subprocess.Popen([COMMAND, *map(str, arguments), "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        first = process.stderr.readline()
        yield process, re.search(r"http://127\.0\.0\.1:(\d+)", first)[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def wait_ready(address):
    with httpx2.Client(transport=httpx2.HTTPTransport(retries=3)) as client:
        while client.get(f"{address}/readyz", timeout=60).status_code != 200:
            pass


def test_a_port_in_use_ends_with_78_and_the_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(tmp_path, "--port", port)
    assert ended.returncode == 78
    assert f"Port {port} on 127.0.0.1 cannot be used" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_that_is_no_index_ends_with_65_and_names_it(tmp_path):
    ended = run(tmp_path, "--port", "0")
    assert ended.returncode == 65
    assert str(tmp_path) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--no-such-option"], 2, "No such option"),
        ([], 2, "Missing argument"),
        (["folder", "--port", "many"], 2, "Invalid value for '--port'"),
        (["UPPER=folder"], 2, "'UPPER' cannot name an index"),
        (["one", "two"], 2, "Two folders are named 'default'"),
        (["folder", "--port", "70000"], 78, "port: Input should be less than or equal to 65535"),
        (["folder", "--host=0.0.0.0"], 78, "--allow-unauthenticated"),
        (["folder", "--config", "none.toml"], 78, "none.toml cannot be read"),
    ],
)
def test_what_cannot_be_meant(arguments, code, sentence, tmp_path):
    ended = run(*arguments)
    assert ended.returncode == code
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_setting_is_a_flag_or_told_in_the_help():
    from headwater_server.settings import Settings

    helped = run("--help").stdout
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in helped or f"HEADWATER_{name.upper()}" in helped, name


def test_sigterm_answers_what_was_asked_and_ends_with_0(index_folder):
    question = {"prompt": "The river", "response": " floods a lake" * 20, "top_k": 5}
    body = json.dumps(question).encode()
    head = (
        "POST /attribute HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with serving(f"rivers={index_folder}", index_folder, "--device", "cpu") as (process, address):
        wait_ready(address)
        names = [one["name"] for one in httpx2.get(f"{address}/v1/indexes").json()["data"]]
        assert names == ["default", "rivers"]
        port = int(address.rpartition(":")[2])
        asked = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(40)]
        for one in asked:
            one.sendall(head + body)
        answers = [_read_all(asked[0])]
        process.send_signal(signal.SIGTERM)
        answers += [_read_all(one) for one in asked[1:]]
        assert process.wait(60) == 0
        told = process.stderr.read()
    for answer in answers:
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")), answer[:80]
        json.loads(answer.partition(b"\r\n\r\n")[2])
    assert answers[0].startswith(b"HTTP/1.1 200")
    assert "Headwater has stopped." in told
    assert "floods" not in told
    assert "Traceback" not in told


def test_sigterm_while_loading_ends_with_0(index_folder):
    with serving(index_folder, "--device", "cpu") as (process, address):
        httpx2.get(f"{address}/livez", timeout=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_sigterm_before_it_listens_ends_with_0(index_folder):
    process = subprocess.Popen([COMMAND, index_folder, "--port", "0"], stderr=subprocess.PIPE, text=True)
    status = Path(f"/proc/{process.pid}/status")
    while not int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) >> (signal.SIGTERM - 1) & 1:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert (process.returncode, told) == (0, "")


def _read_all(connection):
    with connection:
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)
