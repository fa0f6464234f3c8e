"""The line in the log for every answer; of refusals under overload some a second, and then how many more there were."""

import asyncio
import logging
from typing import Any

from starlette.types import Scope

log = logging.getLogger("headwater.access")
REFUSALS_A_SECOND = 10
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def described(scope: Scope) -> tuple[str, str]:
    """Method and route; the route's template stands for the path, which may name a document or hold anything."""
    route: Any = scope.get("route")
    template = getattr(route, "path_format", None) or getattr(route, "path", None)
    template = template or scope.get("headwater.route", "unmatched")
    return (scope["method"] if scope["method"] in _METHODS else "other"), template


class AccessLog:
    """A thousand refusals a second must neither fill a disk nor take the time of those who are answered."""

    def __init__(self) -> None:
        self._refused = 0  # within this second
        self._summing: asyncio.TimerHandle | None = None

    def write(self, method: str, template: str, status: int, milliseconds: float, request_id: str) -> None:
        if status == 429 and not self._spare():
            return
        log.info(
            "%s %s %d %.1f ms %s",
            method,
            template,
            status,
            milliseconds,
            request_id,
            extra={
                "request_id": request_id,
                "method": method,
                "route": template,
                "status": status,
                "ms": round(milliseconds, 1),
            },
        )

    def _spare(self) -> bool:
        """Whether another refusal may be told in this second."""
        if self._summing is None:
            self._summing = asyncio.get_running_loop().call_later(1.0, self._sum_up)
        self._refused += 1
        return self._refused <= REFUSALS_A_SECOND

    def _sum_up(self) -> None:
        if self._refused > REFUSALS_A_SECOND:
            log.info("%d more requests were refused with 429", self._refused - REFUSALS_A_SECOND)
        self._refused, self._summing = 0, None
