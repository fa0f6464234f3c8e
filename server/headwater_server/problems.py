"""One error body for everything (RFC 9457, with `error` as the OpenAI SDK reads it); never what the caller sent."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from headwater.types import ErrorBody, Problem

MEDIA_TYPE = "application/problem+json"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_FAMILY = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODE = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 500: "internal_error"}


class ProblemError(HTTPException):
    """An answer that is an error: status, code for programs, a sentence for people, the field at fault."""

    def __init__(
        self, status: int, code: str, detail: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.code = code
        self.param = param


def problem(status: int, code: str, detail: str, *, param: str | None = None, instance: str | None = None) -> Problem:
    """The body. `type` is a URN: it names the kind of problem and promises no page."""
    family = _FAMILY.get(status, "invalid_request_error" if status < 500 else "server_error")
    detail = detail.encode("utf-8", "replace").decode()  # a lone surrogate would break the answer itself
    return Problem(
        type=f"urn:headwater:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=instance,
        error=ErrorBody(message=detail, type=family, code=code, param=param),
    )


def error_body(error: ProblemError) -> ErrorBody:
    """The part that stands for the error within an answer of several."""
    return problem(error.status_code, error.code, str(error.detail), param=error.param).error


def problem_response(error: ProblemError, request_id: str | None) -> Response:
    body = problem(error.status_code, error.code, str(error.detail), param=error.param, instance=request_id)
    return Response(body.model_dump_json(), error.status_code, error.headers, MEDIA_TYPE)


def problem_app(error: ProblemError) -> ASGIApp:
    """What a middleware answers by when it does not let a request through."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await problem_response(error, scope.get("headwater.request_id"))(scope, receive, send)

    return answer


def internal_error() -> ProblemError:
    return ProblemError(500, "internal_error", "The server failed. Quote the X-Request-ID header to whoever runs it.")


def install(app: FastAPI) -> None:
    """Answer every error of the application, of Starlette and of FastAPI in the one form."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return problem_response(_as_problem(error), _id(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_response(from_validation(error.errors()), _id(request))


def _id(request: Request) -> str | None:
    found: str | None = request.scope.get("headwater.request_id")
    return found


def _as_problem(error: HTTPException) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    status = error.status_code
    sentence = {
        404: "No such route. /docs lists what this server answers.",
        405: "The route is there, but not for this method. /docs lists what this server answers.",
    }.get(status, HTTPStatus(status).description or HTTPStatus(status).phrase)
    return ProblemError(status, _CODE.get(status, "invalid_request"), sentence, headers=error.headers)


@dataclass(frozen=True, kw_only=True)
class _Finding:
    param: str | None
    code: str
    message: str


def from_validation(errors: Sequence[Mapping[str, Any]]) -> ProblemError:
    """422 from pydantic's findings; `input`, `ctx` and `url` are dropped, and so are names that are not plain."""
    findings = [_finding(error) for error in errors]
    first = findings[0]
    return ProblemError(422, first.code, "; ".join(finding.message for finding in findings[:5]), param=first.param)


def _finding(error: Mapping[str, Any]) -> _Finding:
    kind = str(error["type"])
    parts = [str(part) for part in error["loc"]]
    where = parts[0] if parts else "body"
    plain = all(_PLAIN_NAME.fullmatch(part) for part in parts[1:])
    param = (".".join(parts[1:]) or None) if plain else None
    subject = f"`{param}`" if param else f"The {where}"
    if kind == "missing":
        return _Finding(param=param, code="missing_field", message=f"{subject} is missing.")
    if kind == "extra_forbidden":
        return _Finding(
            param=param, code="unknown_field", message=f"{subject if param else 'A field'} is not known here."
        )
    if kind.startswith("string_unicode") or kind == "string_sub_type":
        return _Finding(param=param, code="not_unicode", message=f"{subject} is not valid Unicode text.")
    if kind == "value_error":
        message = str(error["msg"]).removeprefix("Value error, ")
        return _Finding(param=param, code="invalid_value", message=f"{message[:1].upper()}{message[1:]}.")
    code = "empty_response" if (param, kind) == ("response", "string_too_short") else "invalid_value"
    return _Finding(param=param, code=code, message=f"{subject}: {error['msg']}.")
