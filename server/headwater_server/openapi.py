"""The description of the API: every status that a route can answer, each with an example."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headwater.types import Problem
from headwater_server.problems import MEDIA_TYPE, problem

_EXAMPLES = {
    400: ("invalid_json", "The body is not valid JSON: Expecting ',' delimiter at line 1, column 12.", None),
    401: ("invalid_api_key", "This server wants a key: send the header `Authorization: Bearer KEY`.", None),
    403: ("admin_key_required", "This wants an administrator's key, which HEADWATER_ADMIN_KEYS sets.", None),
    404: ("index_not_found", "No index of that name is served. GET /v1/indexes lists them.", "index"),
    408: ("body_timeout", "The body was not complete after 60 s.", None),
    409: ("reload_under_way", "This index is being reloaded already.", None),
    413: ("body_too_large", "The body is larger than the 1048576 bytes taken here.", None),
    415: ("unsupported_media_type", "Send the body with the header `Content-Type: application/json`.", None),
    421: ("unknown_host", "This server is not known by the name in the Host header.", None),
    422: ("top_k_above_documents", "The index 'default' holds 40 documents: ask for a top_k from 1 to 40.", "top_k"),
    429: ("queue_full", "Too many questions are waiting. Try again in 3 s.", None),
    500: ("internal_error", "The server failed. Quote the X-Request-ID header to whoever runs it.", None),
    502: ("upstream_unreachable", "The language model's endpoint could not be reached.", None),
    503: ("loading", "The indexes are still being opened. Try again soon; /readyz says when.", None),
    504: ("deadline_passed", "The answer was not ready in the request's time.", None),
}
_RETRY_AFTER = {"description": "Seconds to wait before asking again.", "schema": {"type": "integer", "minimum": 1}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: the named errors, and those that any route can answer."""
    return {status: _response(status) for status in sorted({*statuses, 401, 421, 500})}


def _response(status: int) -> dict[str, Any]:
    code, detail, param = _EXAMPLES[status]
    example = problem(status, code, detail, param=param, instance="3f1c9a62b04d4c57")
    response: dict[str, Any] = {
        "description": example.title,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example.model_dump()}},
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": _RETRY_AFTER}
    return response


def install(app: FastAPI) -> None:
    """Make the schema once, with the problem's components and the key's scheme."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            components = schema.setdefault("components", {})
            found = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
            schemas = components.setdefault("schemas", {})
            schemas.update(found.pop("$defs", {}))
            schemas["Problem"] = found
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{}, {"key": []}]  # a server without keys asks for none
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
