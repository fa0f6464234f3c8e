"""A real HTTP server on a real socket, whose answers a test writes down beforehand."""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from headwater import AsyncClient, Client

DOCUMENT = {"id": "a/b?c", "object": "document", "text": "To be", "source": "Hamlet", "metadata": {"year": 1603}}
INDEX = {
    "name": "default",
    "version": "sha256:1f",
    "documents": 3,
    "model": {"id": "gpt2", "revision": "607a30d7"},
    "method": {"projection": {"kind": "random", "rank": 8}, "hessian": {"kind": "ekfac", "damping": 0.1}},
    "layers": 12,
    "width": 768,
    "created": 1764000000,
}
ATTRIBUTION = {
    "id": "attr_1",
    "object": "attribution",
    "created": 1764000000,
    "model": "gpt2",
    "index": {"name": "default", "version": "sha256:1f", "documents": 3},
    "method": {"projection": "random", "hessian": "ekfac", "score": "relatif", "sign": "positive"},
    "usage": {"prompt_tokens": 4, "response_tokens": 5, "truncated": False},
    "timings_ms": {"queue": 1.0, "gradient": 2.0, "search": 3.0, "documents": 4.0, "total": 10.0},
    "data": [
        {"rank": 1, "document_id": "d1", "score": 12.4, "percentile": 99.98, "text": "To be", "source": "Hamlet"},
        {"rank": 2, "document_id": "d2", "score": 3.1, "percentile": 50.0, "text": "or not", "metadata": {"year": 1}},
    ],
    "sources": [
        {"source": "Hamlet", "share": 0.8, "documents": 1},
        {"source": None, "share": 0.2, "documents": 1},
    ],
}


@dataclass(kw_only=True)
class Reply:
    """One answer: `after` seconds of silence, or none at all when the server hangs up."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 0.0
    hang_up: bool = False


@dataclass(kw_only=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float  # seconds

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Answers from a script, in order; the last answer is given again and again."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: deque[Reply] = deque()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def reply(self, body: Any = None, *, status: int = 200, times: int = 1, after: float = 0.0, **headers: str) -> None:
        """Add an answer to the script; a body that is not bytes is sent as JSON, `retry_after` as Retry-After."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.script.extend([Reply(status=status, body=data, headers=named, after=after)] * times)

    def hang_up(self) -> None:
        """Add to the script that the connection is closed without an answer."""
        self.script.append(Reply(hang_up=True))

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (`self` is the handler's)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(method=self.command, path=self.path, headers=headers, body=body, at=time.monotonic())
                server.asked.append(asked)
                reply = server.script[0] if len(server.script) == 1 else server.script.popleft()
                time.sleep(reply.after)
                self.close_connection = True
                if reply.hang_up:
                    return
                sizes = {"Content-Length": str(len(reply.body)), "Connection": "close"}
                with suppress(ConnectionError):  # a client that gave up
                    self.send_response(reply.status)
                    for name, value in {**sizes, **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.body)

            do_GET = do_POST = answer  # noqa: N815 (the names that http.server calls)

            def log_message(self, *args: object) -> None:
                """Silence."""

        return Handler


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server on a free port of this machine."""
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADWATER_BASE_URL", "HEADWATER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, server: ScriptedServer) -> Callable[..., Any]:
    """Ask the server one question, with each of the two clients: ask("document", "d1", options={...})."""

    def with_client(method: str, /, *args: Any, options: dict[str, Any], **kwargs: Any) -> Any:
        with Client(**options) as client:
            return getattr(client, method)(*args, **kwargs)

    async def with_async_client(method: str, /, *args: Any, options: dict[str, Any], **kwargs: Any) -> Any:
        async with AsyncClient(**options) as client:
            return await getattr(client, method)(*args, **kwargs)

    def ask(method: str, /, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        options = {"base_url": server.url} | (options or {})
        if request.param == "Client":
            return with_client(method, *args, options=options, **kwargs)
        return asyncio.run(with_async_client(method, *args, options=options, **kwargs))

    return ask


@pytest.fixture
def attribution() -> dict[str, Any]:
    """A whole answer to /v1/attribute."""
    return json.loads(json.dumps(ATTRIBUTION))


@pytest.fixture
def index_info() -> dict[str, Any]:
    """What /v1/indexes/default answers."""
    return json.loads(json.dumps(INDEX))


@pytest.fixture
def document() -> dict[str, Any]:
    """What /v1/documents/a%2Fb%3Fc answers."""
    return json.loads(json.dumps(DOCUMENT))


@pytest.fixture
def problem() -> Callable[..., dict[str, Any]]:
    """An error's body, as RFC 9457 and the OpenAI SDK read it."""

    def problem(status: int, message: str = "The queue is full.", **error: str) -> dict[str, Any]:
        body = {"message": message, "type": "invalid_request_error", "code": None, "param": None} | error
        return {"type": "about:blank", "title": "Problem", "status": status, "detail": message, "error": body}

    return problem
