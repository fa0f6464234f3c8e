"""The gateway's endpoints: forward what came, pass on what comes back, and attribute it if that is asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from headwater_server.gateway.asked import Asked
from headwater_server.gateway.attributing import ChatAttribution
from headwater_server.gateway.heard import Heard
from headwater_server.gateway.kinds import CHAT, COMPLETION, Kind
from headwater_server.gateway.metrics import GatewayMetrics
from headwater_server.gateway.passing import Passing, read_whole, streamed, untouched, whole, with_member
from headwater_server.gateway.schema import completion_route, models_route
from headwater_server.gateway.settings import UpstreamSettings
from headwater_server.gateway.upstream import Upstream
from headwater_server.leaving import unless_gone
from headwater_server.wirejson import require_json


def gateway(settings: UpstreamSettings) -> APIRouter:
    """The routes, and the connections that they share while the server runs."""

    @asynccontextmanager
    async def connections(app: FastAPI) -> AsyncIterator[None]:
        app.state.upstream = Upstream(settings, GatewayMetrics(app.state.engine.metrics.registry))
        yield
        await app.state.upstream.close()

    router = APIRouter(lifespan=connections)

    @router.post("/v1/chat/completions", operation_id="chat", **completion_route("chat"))
    async def chat(request: Request) -> Response:
        """A chat of the upstream. `attribution` asks which training documents made the model answer so."""
        return await _complete(request, CHAT)

    @router.post("/v1/completions", operation_id="complete", **completion_route("completion"))
    async def complete(request: Request) -> Response:
        """A completion of the upstream. `attribution` asks which training documents made the model go on so."""
        return await _complete(request, COMPLETION)

    @router.get("/v1/models", operation_id="list_models", **models_route())
    async def models(request: Request) -> Response:
        """The upstream's models."""
        upstream = _upstream(request)
        answer = await unless_gone(request, upstream.ask(request, "/models", b"", readable=False))
        return _gone() if answer is None else Passing(answer, untouched(upstream.read(answer)))

    return router


async def _complete(request: Request, kind: Kind) -> Response:
    require_json(request)
    asked = Asked.read(await request.body())
    wanted, upstream = asked.options is not None, _upstream(request)
    answer = await unless_gone(request, upstream.ask(request, kind.path, asked.body, readable=wanted))
    if answer is None:
        return _gone()
    if not wanted or answer.is_error:
        return Passing(answer, untouched(upstream.read(answer)))
    engine = request.app.state.engine
    attribution = ChatAttribution(engine, asked, upstream.metrics)
    heard = Heard(kind, engine.settings.max_characters)
    source = upstream.read(answer)
    match _form(answer):
        case "text/event-stream":
            return Passing(answer, streamed(source, heard, attribution), attribution=attribution)
        case "application/json":
            return await _whole(request, answer, source, heard, attribution)
    heard.give_up("unreadable", "The language model's endpoint answered with neither JSON nor events.")
    await attribution.settle(heard)
    return Passing(answer, untouched(source), attribution=attribution)


async def _whole(
    request: Request,
    answer: httpx2.Response,
    source: AsyncIterator[bytes],
    heard: Heard,
    attribution: ChatAttribution,
) -> Response:
    """The answer with its attribution in it; one that is too large for that, or no JSON object, as it came."""

    async def attributed() -> tuple[bytes, bool]:
        body, complete = await read_whole(source)
        if complete and heard.read(body):
            return with_member(body, await attribution.settle(heard)), True
        heard.give_up("too_long", "The language model's answer is too long to be attributed.")
        await attribution.settle(heard)
        return body, complete

    closing = True
    try:
        done = await unless_gone(request, attributed())
        if done is None:
            return _gone()
        body, complete = done
        if complete:
            return whole(answer, body, attribution.id)
        closing = False
        return Passing(answer, untouched(source, body), attribution=attribution)
    finally:
        if closing:
            await answer.aclose()
            attribution.gone()


def _form(answer: httpx2.Response) -> Any:
    """The media type; none for an answer that is compressed, though it was asked not to be."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        return None
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _upstream(request: Request) -> Upstream:
    found: Upstream = request.app.state.upstream
    return found


def _gone() -> Response:
    return Response(status_code=499)  # nobody is there to read it
