"""The gateway as /openapi.json describes it: the upstream's own fields are its own, `attribution` is ours."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from headwater_server.gateway.asked import AttributionOptions
from headwater_server.gateway.attributing import CompletedAttribution, FailedAttribution
from headwater_server.openapi import errors

_EXAMPLES = {
    "chat": {"model": "my-model", "messages": [{"role": "user", "content": "Who?"}], "attribution": {"top_k": 5}},
    "completion": {"model": "my-model", "prompt": "To be, or", "attribution": {"top_k": 5}},
}
_STREAM = {"schema": {"type": "string", "description": "Server-sent events, ended by `data: [DONE]`."}}
_PASSED_ON = {"description": "The upstream's own error, passed on as it came.", "content": {"application/json": {}}}
_HEADER = {"description": "The id of the attribution, if one is asked for.", "schema": {"type": "string"}}


class AttributedAnswer(BaseModel):
    """The upstream's answer as it came, with its attribution at the end if the request asks for it."""

    model_config = ConfigDict(extra="allow")

    attribution: CompletedAttribution | FailedAttribution | None = Field(
        default=None, description="Estimates of influence, and no proof; or why there are none."
    )


def completion_route(name: str) -> dict[str, Any]:
    """What FastAPI is told of a route that passes completions through."""
    options = AttributionOptions.model_json_schema(ref_template="#/components/schemas/{model}")
    options.pop("$defs", None)  # AttributeRequest has put them there
    body = {
        "type": "object",
        "properties": {"attribution": {"anyOf": [options, {"type": "null"}]}},
        "additionalProperties": True,
        "example": _EXAMPLES[name],
    }
    return {
        "tags": ["gateway"],
        "response_model": None,
        "responses": {
            200: {
                "model": AttributedAnswer,
                "content": {"text/event-stream": _STREAM},
                "headers": {"X-Attribution-ID": _HEADER},
                "description": "The answer, whole or streamed.",
            },
            **_errors(400, 408, 413, 415, 422, 502, 503, 504),
            "4XX": _PASSED_ON,
            "5XX": _PASSED_ON,
        },
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
    }


def models_route() -> dict[str, Any]:
    return {
        "tags": ["gateway"],
        "response_model": None,
        "responses": {
            200: {"description": "The upstream's answer.", "content": {"application/json": {}}},
            **_errors(502, 503, 504),
            "4XX": _PASSED_ON,
            "5XX": _PASSED_ON,
        },
    }


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The server's own problems, and under the same statuses what the upstream says in its own way."""
    described = errors(*statuses)
    for response in described.values():
        response["content"]["application/json"] = {}
    return described
