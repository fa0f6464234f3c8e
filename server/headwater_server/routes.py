"""The endpoints: a typed question, ask the engine, a typed answer."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from headwater.types import (
    Answer,
    AttributeRequest,
    Attribution,
    BatchAttribution,
    BatchRequest,
    DocumentRecord,
    ExplainRequest,
    Explanation,
    Health,
    IndexInfo,
    IndexList,
    IndexName,
)
from headwater_server import VERSION
from headwater_server.batch import batch_answer
from headwater_server.engine import Engine
from headwater_server.keys import AdministratorOnly
from headwater_server.leaving import unless_gone
from headwater_server.openapi import errors
from headwater_server.problems import ProblemError
from headwater_server.wirejson import JsonRoute

router = APIRouter(route_class=JsonRoute)


class VersionInfo(Answer):
    """What answers here."""

    name: str = "headwater"
    version: str


async def _engine(request: Request) -> Engine:  # were it not async, each request would wait for a thread
    found: Engine = request.app.state.engine
    return found


AskEngine = Annotated[Engine, Depends(_engine)]
_ATTRIBUTE: dict[str, Any] = {
    "response_model": Attribution,
    "tags": ["attribution"],
    "summary": "The training documents that made the model give this response",
    "responses": errors(400, 403, 404, 408, 413, 415, 422, 429, 503, 504),
}


@router.post("/v1/attribute", operation_id="attribute", **_ATTRIBUTE)
@router.post("/attribute", operation_id="attribute_short", **_ATTRIBUTE)
async def attribute(question: AttributeRequest, engine: AskEngine, request: Request) -> Response:
    """Ranked by estimated influence, most influential first. A score is an estimate, and no proof."""
    answer = await unless_gone(request, engine.attribute(question))
    if answer is None:
        return Response(status_code=499)  # nobody is there to read it
    return Response(engine.kept.add(answer), media_type="application/json")


@router.post(
    "/v1/attribute/batch",
    operation_id="attribute_batch",
    response_model=BatchAttribution,
    tags=["attribution"],
    responses=errors(400, 408, 413, 415, 422, 429, 503),
)
async def attribute_batch(batch: BatchRequest, engine: AskEngine, request: Request) -> BatchAttribution | Response:
    """Many questions, answered in their order, each with its own error."""
    outcomes = await unless_gone(request, engine.attribute_batch(batch.questions))
    if outcomes is None:
        return Response(status_code=499)
    for answer in outcomes:
        if isinstance(answer, Attribution):
            engine.kept.add(answer)
    return batch_answer(outcomes)


@router.post(
    "/v1/explain",
    operation_id="explain",
    response_model=Explanation,
    tags=["attribution"],
    responses=errors(400, 403, 404, 408, 413, 415, 422, 429, 503, 504),
)
async def explain(question: ExplainRequest, engine: AskEngine, request: Request) -> Explanation | Response:
    """The tokens that a document's influence on the response is made of, on both sides."""
    answer = await unless_gone(request, engine.explain(question))
    return answer if answer is not None else Response(status_code=499)


@router.get(
    "/v1/attributions/{attribution_id}",
    operation_id="get_attribution",
    tags=["attribution"],
    response_model=Attribution,
    responses=errors(404, 422, 429, 502, 503, 504),
)
async def kept_attribution(
    attribution_id: Annotated[
        str, Path(description="The `id` of an answer, or a chat's X-Attribution-ID.", examples=["attr_2f8a1c"])
    ],
    engine: AskEngine,
    request: Request,
) -> Response:
    """An answer of before, kept for a while; a chat's is waited for while it is made, or gives why it failed."""
    answer = await unless_gone(request, engine.kept_attribution(attribution_id))
    return Response(answer, 200 if answer is not None else 499, media_type="application/json")


@router.get("/v1/indexes", operation_id="list_indexes", tags=["indexes"], responses=errors(503))
async def indexes(engine: AskEngine) -> IndexList:
    """What is served: model, method, documents."""
    return IndexList(data=engine.infos())


@router.get("/v1/indexes/{name}", operation_id="get_index", tags=["indexes"], responses=errors(404, 422, 503))
async def index(name: Annotated[IndexName, Path()], engine: AskEngine) -> IndexInfo:
    """One index: model, method, documents."""
    return engine.info(name)


@router.post(
    "/v1/indexes/{name}/reload",
    operation_id="reload_index",
    tags=["indexes"],
    responses=errors(403, 404, 409, 422, 503),
)
async def reload(name: Annotated[IndexName, Path()], engine: AskEngine, _: AdministratorOnly) -> IndexInfo:
    """Open the index's folder anew and serve it; one that is damaged leaves the one before in service."""
    return await engine.reload(name)


@router.get(
    "/v1/documents/{document_id:path}",
    operation_id="get_document",
    tags=["documents"],
    responses=errors(403, 404, 422, 503),
)
async def document(
    document_id: Annotated[str, Path(description="The document's id, as in the corpus.", examples=["hamlet-3-1"])],
    engine: AskEngine,
    index: Annotated[IndexName, Query(description="The index that holds it.")] = "default",
) -> DocumentRecord:
    """A training document with its metadata."""
    found = await engine.document(index, document_id)
    if found is None:
        raise ProblemError(404, "document_not_found", "The index holds no document of that id.", param="document_id")
    return found


@router.get("/livez", operation_id="livez", tags=["operations"], responses=errors())
async def livez() -> Health:
    """The process runs."""
    return Health(status="ok", version=VERSION)


@router.get("/readyz", operation_id="readyz", tags=["operations"], responses=errors(503))
@router.get("/health", operation_id="health", tags=["operations"], responses=errors(503))
async def readyz(engine: AskEngine) -> Health:
    """Questions are answered; if not, the problem names what fails."""
    failing = [name for name, holds in engine.checks().items() if not holds]
    if failing:
        raise ProblemError(503, "not_ready", f"Not ready: {', '.join(failing)}.", headers={"Retry-After": "1"})
    return Health(status="ok", version=VERSION)


@router.get(
    "/metrics",
    operation_id="metrics",
    tags=["operations"],
    response_class=PlainTextResponse,
    responses=errors(),
)
async def metrics(engine: AskEngine) -> Response:
    """Counts and times for Prometheus, in its text format."""
    return Response(engine.metrics.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/version", operation_id="version", tags=["operations"], responses=errors())
async def version() -> VersionInfo:
    """The server's version."""
    return VersionInfo(version=VERSION)
