"""Before the routes: request ids, keys, security headers, limits on bodies, and logs without content."""

import json
import logging
import socket

import pytest

from headwater_server.keys import PUBLIC_PATHS

KEY = "a-key-of-enough-characters"


def test_a_request_id_is_kept_or_made_and_always_returned(twin, live):
    server = live(twin())
    kept = server.client.get("/v1/indexes/none", headers={"X-Request-ID": "mine.1-2_3"})
    assert kept.headers["x-request-id"] == kept.json()["instance"] == "mine.1-2_3"
    for refused in ("with space", "x" * 129, "a/b", ""):
        made = server.client.get("/livez", headers={"X-Request-ID": refused}).headers["x-request-id"]
        assert len(made) == 32
        assert made != refused


@pytest.mark.parametrize("path", ["/", "/docs", "/livez", "/openapi.json", "/page/page.js", "/nowhere", "/v1/indexes"])
def test_every_answer_has_the_security_headers(twin, live, path):
    headers = live(twin()).client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_with_keys_every_route_but_the_public_ones_wants_one(twin, live):
    server = live(twin(), api_keys=(KEY, KEY + "-2"))
    routes = server.client.get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()["paths"]
    assert len(routes) >= 9
    for path, methods in {**routes, "/openapi.json": {"get": {}}, "/nowhere": {"get": {}}}.items():
        for method in methods:
            answer = server.client.request(method, path, json={} if method == "post" else None)
            assert (answer.status_code == 401) == (path not in PUBLIC_PATHS), path
    assert server.client.get("/page/page.js").status_code == 200


def test_a_key_must_be_whole(twin, live):
    server = live(twin(), api_keys=(KEY, KEY + "-2"))
    for sent in ("", KEY, f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", "Bearer", "Bearer \xff"):
        refused = server.client.get("/v1/indexes", headers={"Authorization": sent.encode("latin-1")})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), sent
        assert refused.json()["error"]["type"] == "authentication_error"
    for key in (KEY, KEY + "-2"):
        assert server.client.get("/v1/indexes", headers={"Authorization": f"bearer {key}"}).status_code == 200


def test_a_body_above_the_limit_gets_413_by_its_header_and_by_its_bytes(twin, live):
    server = live(twin(), max_body_bytes=2000)
    body = json.dumps({"prompt": "", "response": "w " * 2000}).encode()
    kind = {"Content-Type": "application/json"}
    by_header = server.client.post("/attribute", content=body, headers=kind)
    by_bytes = server.client.post("/attribute", content=(body[n : n + 500] for n in range(0, 4000, 500)), headers=kind)
    for refused in (by_header, by_bytes):
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
        assert "2000 bytes" in refused.json()["detail"]
    assert server.ask("still here").status_code == 200


def test_a_body_that_never_ends_gets_408(twin, live):
    server = live(twin(), request_timeout=0.3)
    with socket.create_connection(server.address, timeout=10) as slow:
        slow.sendall(
            b"POST /attribute HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_logs_hold_ids_and_times_and_nothing_that_was_said(twin, live, caplog, wait_until):
    caplog.set_level(logging.DEBUG)
    server = live(twin(), api_keys=(KEY,))
    server.client.headers["Authorization"] = f"Bearer {KEY}"
    server.client.headers["X-Request-ID"] = "find-me"
    assert server.ask("a-secret-response", prompt="a-secret-prompt").status_code == 200
    server.ask("a-secret-response", top_k=0)
    server.client.get("/v1/documents/a-secret-document")
    server.client.get("/a-secret-path?q=a-secret-query")
    # A line is written after the last byte of its answer, which the client may have before the line is there.
    wait_until(lambda: len([record for record in caplog.records if record.name == "headwater.access"]) == 4)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith(("headwater", "uvicorn"))]
    assert not [line for line in lines if "secret" in line or KEY in line]
    asked = [record for record in caplog.records if record.name == "headwater.access"]
    assert [(record.status, record.route) for record in asked] == [
        (200, "/attribute"),
        (422, "/attribute"),
        (404, "/v1/documents/{document_id}"),
        (404, "unmatched"),
    ]
    assert all(record.request_id == "find-me" for record in asked)


def test_a_name_that_is_not_this_server_s_is_refused(twin, live):
    server = live(twin())
    port = server.address[1]
    for host in ("rebound.example", f"rebound.example:{port}", "localhost.evil", "[::2]", ""):
        refused = server.client.get("/v1/indexes", headers={"Host": host})
        assert (refused.status_code, refused.json()["error"]["code"]) == (421, "unknown_host"), host
        assert server.client.get("/livez", headers={"Host": host}).status_code == 200  # probes come by address
    for host in ("localhost", f"127.0.0.1:{port}", "[::1]", f"[::1]:{port}", "LOCALHOST"):
        assert server.client.get("/v1/indexes", headers={"Host": host}).status_code == 200


def test_pages_elsewhere_may_ask_only_where_they_are_allowed(twin, live):
    asking = {"Origin": "https://docs.example", "Access-Control-Request-Method": "POST"}
    closed = live(twin())
    assert "access-control-allow-origin" not in closed.client.options("/attribute", headers=asking).headers
    opened = live(twin(), cors_origins=("https://docs.example",), api_keys=(KEY,))
    preflight = opened.client.options("/attribute", headers=asking)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, "https://docs.example")
    other = opened.client.options("/attribute", headers=asking | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    keyless = opened.client.get("/v1/indexes", headers={"Origin": "https://docs.example"})
    assert (keyless.status_code, keyless.headers["access-control-allow-origin"]) == (401, "https://docs.example")
