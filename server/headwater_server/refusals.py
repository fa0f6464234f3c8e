"""What the engine and the indexer raise, as the problem that a caller reads."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from headwater_indexer.errors import ClusterError, IndexDamaged, NonFiniteGradient, PairError
from headwater_server.errors import (
    DeadlinePassed,
    IndexLacks,
    NotReady,
    OutOfMemory,
    QueueClosed,
    QueueFull,
    ReloadFailed,
    ReloadUnderWay,
    TextWithheld,
    TooLong,
    TooManyWanted,
    UnknownDocument,
    UnknownIndex,
    WorkerDied,
)
from headwater_server.problems import ProblemError, problem_response

log = logging.getLogger("headwater.engine")
_SOON = {"Retry-After": "1"}
_WHY = {
    "loading": "The indexes are still being opened. Try again soon; /readyz says when.",
    "draining": "The server is being shut down and takes no new questions.",
    "failed": "The server cannot answer: its model or an index failed. Its log says why.",
}


def _pair(error: PairError) -> ProblemError:
    sentence = f"{error}"
    return ProblemError(422, error.code, f"{sentence[:1].upper()}{sentence[1:].rstrip('.')}.", param=error.param)


def _queue_full(error: QueueFull) -> ProblemError:
    wait = error.retry_after
    return ProblemError(
        429, "queue_full", f"Too many questions are waiting. Try again in {wait} s.", headers={"Retry-After": str(wait)}
    )


def _not_ready(error: NotReady) -> ProblemError:
    return ProblemError(503, error.reason, _WHY[error.reason], headers=_SOON)


# One line each: what was raised, and what is said. The sentences of the engine's own errors hold numbers, no text.
REFUSALS: dict[type[Exception], Callable[[Any], ProblemError]] = {
    PairError: _pair,
    TooLong: lambda error: ProblemError(422, "too_long", f"{error}.", param="response"),
    TooManyWanted: lambda error: ProblemError(422, "top_k_above_documents", f"{error}.", param=error.param),
    IndexLacks: lambda error: ProblemError(422, "index_lacks", f"{error}."),
    TextWithheld: lambda _: ProblemError(
        403,
        "text_withheld",
        'This server tells no document\'s text: ask with `"include": ["metadata"]`.',
        param="include",
    ),
    UnknownDocument: lambda _: ProblemError(
        404, "document_not_found", "The index holds no document of one of these ids.", param="document_ids"
    ),
    UnknownIndex: lambda _: ProblemError(
        404, "index_not_found", "No index of that name is served. GET /v1/indexes lists them.", param="index"
    ),
    NonFiniteGradient: lambda _: ProblemError(
        422, "non_finite_gradient", "The gradient of this question is not finite: it has no influence to estimate."
    ),
    OutOfMemory: lambda _: ProblemError(
        422, "out_of_memory", "This question alone needs more memory than the server's device has: make it shorter."
    ),
    QueueFull: _queue_full,
    NotReady: _not_ready,
    QueueClosed: lambda _: ProblemError(503, "unavailable", _WHY["failed"], headers=_SOON),
    WorkerDied: lambda _: ProblemError(
        503, "worker_died", "The model's thread ended while it had this question. Ask again.", headers=_SOON
    ),
    DeadlinePassed: lambda _: ProblemError(504, "deadline_passed", "The answer was not ready in the request's time."),
    ReloadUnderWay: lambda _: ProblemError(409, "reload_under_way", "This index is being reloaded already."),
    ReloadFailed: lambda error: ProblemError(
        409, "reload_failed", f"The index was not replaced, and the one before goes on serving. {error}"
    ),
    ClusterError: lambda _: ProblemError(
        503, "shard_unavailable", "A part of the index does not answer now. Ask again.", headers=_SOON
    ),
    IndexDamaged: lambda _: ProblemError(
        500, "index_damaged", "A file of the index cannot be read any more. The server's log says which."
    ),
}


def refusal(error: BaseException) -> ProblemError | None:
    """What a caller is told; None for an error that nobody foresaw."""
    if isinstance(error, ProblemError):
        return error
    return next((say(error) for kind, say in REFUSALS.items() if isinstance(error, kind)), None)


def install(app: FastAPI) -> None:
    for kind, say in REFUSALS.items():
        app.add_exception_handler(kind, _handler(say))


def _handler(say: Callable[[Any], ProblemError]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:  # not async, it would wait for a thread
        if isinstance(error, IndexDamaged):
            log.error("%s", error)
        return problem_response(say(error), request.scope.get("headwater.request_id"))

    return answer
