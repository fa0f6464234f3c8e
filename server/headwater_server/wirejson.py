"""Strict JSON in: the right content type, UTF-8, no NaN, no depth that breaks a parser; 4xx with the position."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from headwater_server.problems import ProblemError


def parse_json(body: bytes) -> Any:
    """Raises ProblemError with the position; Python's parser alone takes NaN and more."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _invalid(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    except json.JSONDecodeError as error:
        raise _invalid(
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise _invalid("The body is nested too deeply.") from None
    except ValueError:
        raise _invalid("The body is not valid JSON: it holds NaN, Infinity, or too many digits.") from None


def require_json(request: Request) -> None:
    """Raises ProblemError (415) for a body that does not say that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(
            415, "unsupported_media_type", "Send the body with the header `Content-Type: application/json`."
        )


class JsonRequest(Request):
    """A request whose body is JSON as RFC 8259 has it."""

    async def json(self) -> Any:
        return parse_json(await self.body())


class JsonRoute(APIRoute):
    """A route that refuses, with 415, a body that does not say that it is JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        wants_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            if wants_body:
                require_json(request)
            return await handle(JsonRequest(request.scope, request.receive))

        return strict


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _invalid(sentence: str) -> ProblemError:
    return ProblemError(400, "invalid_json", sentence)
