"""What stands before the routes: request ids and the access line, security headers, keys, and limits on bodies."""

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from fastapi.responses import Response
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwater_server.logs import where_it_failed
from headwater_server.problems import ProblemError, internal_error, problem_response

access = logging.getLogger("headwater.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

# Nothing inline and nothing from another origin; the same for every answer, so that none is forgotten.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# The rest is denied without a key. The page and /docs are files without content of an index.
PUBLIC_PATHS = frozenset({"/", "/docs", "/livez", "/readyz", "/health"})
PUBLIC_FOLDER = "/page/"


class RequestContext:
    """Outermost: every request has an id, one line in the log, the security headers, and an answer if all fails."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else secrets.token_hex(16)
        scope["headwater.request_id"] = request_id
        began, status = time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001  the last one to see it: it becomes a 500 without a leak
            access.error("failed: %s", where_it_failed(error), extra={"request_id": request_id})
            if not status:
                await problem_response(internal_error(), request_id)(scope, receive, send_with_headers)
        finally:
            _write_line(scope, request_id, status, 1000 * (time.monotonic() - began))


def _write_line(scope: Scope, request_id: str, status: int, milliseconds: float) -> None:
    """The route's template stands for the path, which may name a document or hold anything."""
    route: Any = scope.get("route")
    template = getattr(route, "path_format", None) or getattr(route, "path", None) or "unmatched"
    method = scope["method"] if scope["method"].isalpha() and len(scope["method"]) < 16 else "other"
    access.info(
        "%s %s %d %.1f ms %s",
        method,
        template,
        status,
        milliseconds,
        request_id,
        extra={
            "request_id": request_id,
            "method": method,
            "route": template,
            "status": status,
            "ms": round(milliseconds, 1),
        },
    )


class KeyCheck:
    """Default-deny once keys are set. Hashes are compared, all of them and in constant time."""

    def __init__(self, app: ASGIApp, *, keys: Sequence[SecretStr]) -> None:
        self.app = app
        self._hashes = tuple(_hash(key.get_secret_value()) for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not self._hashes or _public(scope["path"]) or self._allows(scope):
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        await _refuse(
            ProblemError(
                401,
                "invalid_api_key",
                "This server wants a key: send the header `Authorization: Bearer KEY`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        )(scope, receive, send)

    def _allows(self, scope: Scope) -> bool:
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        given = _hash(token.strip())
        matches = [secrets.compare_digest(given, known) for known in self._hashes]  # no early end
        return kind.lower() == "bearer" and any(matches)


class BodyLimit:
    """No body above the limit is taken in, whatever its headers say, and none may take for ever to arrive."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self.max_bytes):
            await _refuse(self._too_large())(scope, receive, send)
            return
        taken, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self.timeout

        async def limited() -> Message:
            nonlocal taken, complete
            if complete:  # from now on only the client's leaving can come
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise ProblemError(
                    408, "body_timeout", f"The body was not complete after {self.timeout:g} s.", headers=_CLOSE
                ) from None
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                complete = not message.get("more_body", False)
            if taken > self.max_bytes:
                raise self._too_large()
            return message

        await self.app(scope, limited, send)

    def _too_large(self) -> ProblemError:
        return ProblemError(
            413, "body_too_large", f"The body is larger than the {self.max_bytes} bytes taken here.", headers=_CLOSE
        )


_CLOSE = {"Connection": "close"}  # what is left of the body is not read


def _refuse(error: ProblemError) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = problem_response(error, scope.get("headwater.request_id"))
        await response(scope, receive, send)

    return answer


def _public(path: str) -> bool:
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_FOLDER)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
