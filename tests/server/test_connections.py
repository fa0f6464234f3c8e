"""Connections: time and bytes of a head, what is no HTTP, and answers that leave at once."""

import json
import signal
import socket
import time

import pytest


@pytest.mark.parametrize("sent", [b"", b"POST /attribute HTTP/1.1\r\nHost: local"])
def test_a_connection_that_never_finishes_its_head_is_closed(twin, live, monkeypatch, sent):
    monkeypatch.setattr("headwater_server.connections.HEAD_TIMEOUT", 0.3)
    server = live(twin())
    with socket.create_connection(server.address, timeout=10) as silent:
        silent.sendall(sent)
        assert silent.recv(100) == b""
    with socket.create_connection(server.address, timeout=10) as second:
        second.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = second.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        while not answer.endswith(b"}"):
            answer += second.recv(65536)
        second.sendall(b"GET /livez HT")
        assert second.recv(100) == b""
    assert server.ask("still here").status_code == 200


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(twin, live):
    server = live(twin())
    assert server.client.get("/livez").status_code == 200
    [connection] = server.server.server_state.connections
    own = connection.transport.get_extra_info("socket")
    assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_slow_answer_outlasts_the_limit_on_heads(twin, live, monkeypatch):
    monkeypatch.setattr("headwater_server.connections.HEAD_TIMEOUT", 0.2)
    server = live(twin(before=lambda _: time.sleep(0.3)))
    assert server.ask("takes longer than a head may").status_code == 200


def told(address, sent):
    """The status line, the headers and the problem that these bytes are answered with; the connection ends then."""
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(sent)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.decode().partition("\r\n\r\n")
    line, *headers = head.split("\r\n")
    return line, headers, json.loads(body)


@pytest.mark.parametrize(
    "head",
    [
        "".join(f"X-{number}: some value\r\n" for number in range(10_000)),
        "X-Large: " + 70_000 * "a",
        "X-Endless: " + 70_000 * "a" + "\r\nX-More: no end of it",
    ],
    ids=["many headers", "a long one", "no end"],
)
def test_a_head_above_the_limit_is_refused(twin, live, head):
    server = live(twin())
    line, headers, problem = told(server.address, f"GET /livez HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
    assert line == "HTTP/1.1 431 Request Header Fields Too Large"
    assert "content-type: application/problem+json" in headers
    assert problem["error"]["code"] == "head_too_large"
    assert server.ask("still here").status_code == 200


def test_a_head_within_the_limit_is_read(twin, live):
    assert live(twin()).client.get("/livez", headers={"X-Long": 60_000 * "a"}).status_code == 200


def test_a_long_body_is_not_counted_with_the_head_behind_it(twin, live):
    server = live(twin())
    body = json.dumps({"prompt": "", "response": "r" * 100_000}).encode()
    first = b"POST /attribute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(first + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"GET /livez HTTP/1.1\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"Host: localhost\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"HELLO\r\n\r\n",
        b"POST /attribute HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /attribute HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Fold: a\x00b\r\n\r\n",
    ],
    ids=["TLS", "no HTTP", "two kinds of length", "two lengths", "a zero byte"],
)
def test_what_is_no_http_gets_a_problem_and_the_end_of_its_connection(twin, live, sent):
    server = live(twin())
    line, headers, problem = told(server.address, sent)
    assert line == "HTTP/1.1 400 Bad Request"
    assert "connection: close" in headers
    assert problem["error"]["code"] == "invalid_http"
    assert server.ask("still here").status_code == 200


def test_a_first_request_that_comes_as_the_server_stops_is_told_so(twin, live, wait_until):
    server = live(twin())
    with (
        socket.create_connection(server.address, timeout=10) as opened,
        socket.create_connection(server.address) as idle,
    ):
        wait_until(lambda: len(server.server.server_state.connections) == 2)
        server.server.handle_exit(signal.SIGTERM, None)
        time.sleep(0.2)
        body = b'{"prompt": "", "response": "late"}'
        head = b"POST /attribute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        opened.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'"code":"draining"' in answer
        assert idle.recv(1) == b""
