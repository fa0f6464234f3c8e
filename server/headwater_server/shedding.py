"""Under overload, a question that finds no room is refused before it is parsed: refusing must not cost what answering
does."""

from starlette.types import ASGIApp, Receive, Scope, Send

from headwater_server.engine import Engine
from headwater_server.errors import QueueFull
from headwater_server.problems import problem_app
from headwater_server.refusals import refusal

QUESTIONS = frozenset({"/attribute", "/v1/attribute", "/v1/attribute/batch", "/v1/explain"})


class Shedding:
    """Answers 429 to questions when the queue is full; what is wrong with them is not looked at then."""

    def __init__(self, app: ASGIApp, *, engine: Engine) -> None:
        self.app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in QUESTIONS:
            try:
                self._engine.require_room()
            except QueueFull as error:
                problem = refusal(error)
                if problem is not None:
                    scope["headwater.route"] = scope["path"]
                    await problem_app(problem)(scope, receive, send)
                    return
        await self.app(scope, receive, send)
