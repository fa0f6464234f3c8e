"""What stands before the routes: request ids and the access line, security headers, hosts, and limits on bodies."""

import asyncio
import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwater_server import access
from headwater_server.access import AccessLog, described
from headwater_server.keys import PROBES
from headwater_server.logs import where_it_failed
from headwater_server.metrics import Metrics
from headwater_server.problems import ProblemError, internal_error, problem_app, problem_response

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
_SECURITY = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_OURS = {name for name, _ in _SECURITY} | {b"x-request-id"}  # whatever an upstream says by these names


class RequestContext:
    """Outermost: every request has an id, one line in the log, the security headers, and an answer if all fails."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics
        self._access = AccessLog()

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
                kept = [header for header in message.get("headers", ()) if header[0].lower() not in _OURS]
                message["headers"] = [*kept, *_SECURITY, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001  the last one to see it: it becomes a 500 without a leak
            access.log.error("failed: %s", where_it_failed(error), extra={"request_id": request_id})
            if not status:
                await problem_response(internal_error(), request_id)(scope, receive, send_with_headers)
        finally:
            self._note(scope, request_id, status or 499, time.monotonic() - began)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        method, route = described(scope)
        self._metrics.requested(method, route, status, seconds)
        self._access.write(method, route, status, 1000 * seconds, request_id)


class HostCheck:
    """Only requests to a name of this server: a page elsewhere may have its own name resolve to this machine."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self.app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not self._hosts or scope["path"] in PROBES or self._named(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await problem_app(
                ProblemError(421, "unknown_host", "This server is not known by the name in the Host header.")
            )(scope, receive, send)

    def _named(self, scope: Scope) -> bool:
        host = Headers(scope=scope).get("host", "").lower()
        name, _, port = host.rpartition(":")
        return (name if name and port.isdecimal() else host) in self._hosts


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
            await problem_app(self._too_large())(scope, receive, send)
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
