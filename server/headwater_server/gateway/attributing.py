"""The attribution of a chat's answer: whatever becomes of it, the chat goes on, and asking for its id gets an end."""

import asyncio
import logging
import re
from typing import Any, Literal

from pydantic import ValidationError

from headwater.types import Answer, AttributeRequest, Attribution, ErrorBody
from headwater_server.engine import Engine
from headwater_server.errors import DeadlinePassed
from headwater_server.gateway.asked import Asked
from headwater_server.gateway.heard import Heard
from headwater_server.gateway.metrics import GatewayMetrics
from headwater_server.logs import where_it_failed
from headwater_server.problems import ProblemError, from_validation, internal_error, problem
from headwater_server.refusals import REFUSALS

log = logging.getLogger("headwater.gateway")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class CompletedAttribution(Attribution):
    """As POST /v1/attribute answers."""

    status: Literal["completed"] = "completed"


class FailedAttribution(Answer):
    """Why there is none. `unsupported_model`: the answer is by another model than the index's."""

    id: str
    object: Literal["attribution"] = "attribution"
    status: Literal["failed", "unsupported_model"]
    error: ErrorBody


class ChatAttribution:
    """One attribution, from the chat's first byte, when its id is told, to its end."""

    def __init__(self, engine: Engine, asked: Asked, metrics: GatewayMetrics) -> None:
        self.id = engine.kept.expect()
        self._metrics = metrics
        self._settled = False
        self._engine = engine
        self._asked = asked

    async def settle(self, heard: Heard) -> dict[str, Any]:
        """What travels as "attribution", kept under the id as well; never raises but when it is cancelled."""
        try:
            async with asyncio.timeout(self._engine.settings.attribution_timeout):
                answer = await self._attribute(heard)
        except TimeoutError:
            return self.fail(REFUSALS[DeadlinePassed](None))
        except Exception as error:  # noqa: BLE001  a chat that works is worth more than its attribution
            return self.fail(_reason(error))
        self._engine.kept.keep(answer)
        self._count("completed")
        return {**answer.model_dump(mode="json"), "status": "completed"}

    def fail(self, why: ProblemError) -> dict[str, Any]:
        """As `settle`. Nothing happens to an attribution that is settled."""
        self._engine.kept.fail(self.id, why)
        self._count(why.code)
        failed = FailedAttribution(
            id=self.id,
            status="unsupported_model" if why.code == "unsupported_model" else "failed",
            error=problem(why.status_code, why.code, str(why.detail), param=why.param).error,
        )
        return failed.model_dump(mode="json")

    def _count(self, status: str) -> None:
        if not self._settled:
            self._settled = True
            self._metrics.attributed(status)

    def gone(self) -> None:
        """The client left, or the chat ended otherwise without its attribution."""
        self.fail(ProblemError(404, "chat_ended", "The chat ended before its answer was attributed."))

    async def _attribute(self, heard: Heard) -> Attribution:
        if heard.problem is not None:
            raise heard.problem
        options = self._asked.options or {}
        pair = heard.kind.pair(self._asked.fields)
        try:
            question = AttributeRequest.model_validate({**options, **pair, "response": heard.text})
        except ValidationError as error:
            found = [{**finding, "loc": ("body", *finding["loc"])} for finding in error.errors()]
            raise from_validation(found) from None
        self._require_indexed_model(heard.model, question.index)
        answer = await self._engine.attribute(question)
        return answer.model_copy(update={"id": self.id})

    def _require_indexed_model(self, served: str | None, index: str) -> None:
        settings = self._engine.settings
        model = self._engine.index(index).manifest.model
        name, _, revision = (served or "").partition("@")
        if not {served, name}.isdisjoint(settings.model_names.get(index, ())):
            return
        other_commit = model.revision and _COMMIT.fullmatch(revision) and revision != model.revision
        if name not in {model.id, settings.model} or other_commit:
            raise ProblemError(
                409,
                "unsupported_model",
                f"The answer names another model than the index '{index}' is of. If it is the same one, say what the "
                "endpoint calls it with --upstream-model.",
                param="model",
            )


def _reason(error: Exception) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    for kind in type(error).__mro__:
        if say := REFUSALS.get(kind):
            return say(error)
    log.error("an attribution failed: %s", where_it_failed(error))
    return internal_error()
