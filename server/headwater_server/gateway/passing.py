"""How the upstream's answer reaches the caller: as it is, whole with its attribution, or streamed and that last."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from headwater_server.gateway.attributing import ChatAttribution
from headwater_server.gateway.events import Events
from headwater_server.gateway.headers import Pairs, to_caller
from headwater_server.gateway.heard import Heard
from headwater_server.gateway.upstream import UpstreamBrokeOff, problem_of
from headwater_server.problems import ProblemError, problem

MAX_WHOLE = 16 * 1024 * 1024  # bytes of an answer that is held to be attributed
ID_HEADER = "X-Attribution-ID"
_DONE = b"data: [DONE]\n\n"


class Passing(StreamingResponse):
    """Bytes of the upstream under its status and headers; whatever happens, the upstream's answer is closed."""

    def __init__(
        self, upstream: httpx2.Response, body: AsyncIterator[bytes], *, attribution: ChatAttribution | None = None
    ) -> None:
        super().__init__(body, upstream.status_code)
        self._upstream = upstream
        self._attribution = attribution
        self.raw_headers = _raw(to_caller(upstream.headers.multi_items(), altered=attribution is not None))
        if attribution is not None:
            self.headers[ID_HEADER] = attribution.id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # the caller may have left
            await self._upstream.aclose()
            if self._attribution is not None:
                self._attribution.gone()


async def untouched(source: AsyncIterator[bytes], begun: bytes = b"") -> AsyncIterator[bytes]:
    """Raises UpstreamBrokeOff, so that a cut answer is not taken for a whole one."""
    try:
        if begun:
            yield begun
        async for data in source:
            yield data
    except httpx2.RequestError as failure:
        raise UpstreamBrokeOff(problem_of(failure).code) from None


async def streamed(source: AsyncIterator[bytes], heard: Heard, attribution: ChatAttribution) -> AsyncIterator[bytes]:
    """The upstream's events as they come; before its [DONE], an event with no token that carries the attribution."""
    events = Events(heard.read, lambda: heard.give_up("unreadable", "The endpoint sent an event that is too long."))
    try:
        async for data in source:
            if passing := events.feed(data):
                yield passing
            if events.done:
                break
    except httpx2.RequestError as failure:
        why = problem_of(failure)
        attribution.fail(why)
        yield events.end() + events.gap + _error_event(why)
        raise UpstreamBrokeOff(why.code) from None
    if rest := events.end() + events.gap:
        yield rest
    if not (events.done or heard.finished):
        heard.give_up("upstream_broke_off", "The language model's endpoint ended before its answer did.")
    yield heard.last_chunk(await attribution.settle(heard))
    if events.done:
        async for data in untouched(source, events.held):
            yield data
    elif heard.finished:
        yield _DONE  # `transformers serve` ends without it


def _error_event(why: ProblemError) -> bytes:
    """As OpenAI's clients read it: they raise it."""
    error = problem(why.status_code, why.code, str(why.detail)).error
    return b"data: " + json.dumps({"error": error.model_dump()}).encode() + b"\n\n"


async def read_whole(source: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """The answer's body, and whether that is all: more than MAX_WHOLE is not held. Raises ProblemError if it breaks."""
    taken = bytearray()
    try:
        async for data in source:
            taken += data
            if len(taken) > MAX_WHOLE:
                return bytes(taken), False
    except httpx2.RequestError as failure:
        raise problem_of(failure) from None
    return bytes(taken), True


def with_member(body: bytes, attribution: Mapping[str, Any]) -> bytes:
    """A JSON object with "attribution" at its end; what is there stays as it is written."""
    before = body.rstrip()[:-1]
    comma = b"" if before.rstrip().endswith(b"{") else b","
    return before + comma + b'"attribution":' + json.dumps(attribution).encode() + b"}"


def whole(upstream: httpx2.Response, body: bytes, identity: str) -> Response:
    """An answer that is all there, under the upstream's status and headers."""
    response = Response(body, upstream.status_code)
    response.raw_headers += _raw(to_caller(upstream.headers.multi_items(), altered=True))
    response.headers[ID_HEADER] = identity
    return response


def _raw(headers: Pairs) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
