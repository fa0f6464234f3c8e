"""The language model's endpoint: one pool of connections, and every way in which it can fail as a problem."""

import logging
import time
from collections.abc import AsyncIterator

import httpx2
from starlette.requests import Request

from headwater_server.gateway.headers import to_upstream
from headwater_server.gateway.metrics import GatewayMetrics
from headwater_server.gateway.settings import UpstreamSettings, on_this_machine
from headwater_server.problems import ProblemError

log = logging.getLogger("headwater.gateway")
CONNECT_TIMEOUT = 5.0  # seconds
MAX_CONNECTIONS = 1000


class UpstreamBrokeOff(Exception):
    """The upstream failed when its answer had begun; all that is left is to break off too."""


class Upstream:
    """Asks the endpoint that was configured, and no other. Closed once."""

    def __init__(self, settings: UpstreamSettings, metrics: GatewayMetrics) -> None:
        self.metrics = metrics
        self.base_url = httpx2.URL(str(settings.upstream))
        self.timeout = httpx2.Timeout(settings.upstream_timeout, connect=CONNECT_TIMEOUT, pool=CONNECT_TIMEOUT)
        key = settings.upstream_key
        self._authorization = f"Bearer {key.get_secret_value()}" if key else None
        self._forwards_key = settings.upstream_forward_key
        local = on_this_machine(self.base_url.host)
        if self._authorization and self.base_url.scheme == "http" and not local:
            log.warning("the upstream's key travels over plain http, where anyone on the way can read it: use https")
        self._http = httpx2.AsyncClient(
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS),
            follow_redirects=False,
            trust_env=not local,  # a proxy has no way to this machine's loopback
        )

    async def ask(self, request: Request, path: str, body: bytes, *, readable: bool) -> httpx2.Response:
        """The upstream's answer, its body not yet read; whoever gets it closes it. `readable` asks for no compression.

        Raises ProblemError when there is none, or one that is about this server and not for its callers.
        """
        headers = to_upstream(
            request.headers.items(),
            authorization=request.headers.get("authorization") if self._forwards_key else self._authorization,
            request_id=request.scope.get("headwater.request_id"),
        )
        if readable:
            headers = [*((k, v) for k, v in headers if k != "accept-encoding"), ("accept-encoding", "identity")]
        sent = httpx2.Request(  # not `build_request`, which would add headers and cookies of its own
            request.method,
            f"{self.base_url}{path}",
            headers=headers,
            content=body or None,
            extensions={"timeout": self.timeout.as_dict()},
        )
        began = time.monotonic()
        try:
            answer = await self._http.send(sent, stream=True)
        except httpx2.RequestError as failure:
            raise self._counted(problem_of(failure)) from None
        self.metrics.answered(answer.status_code, time.monotonic() - began)
        if about_us := self._about_us(answer.status_code):
            await answer.aclose()
            raise self._counted(about_us)
        answer.extensions["headwater.began"] = began
        return answer

    async def read(self, answer: httpx2.Response) -> AsyncIterator[bytes]:
        """The body as it comes. Raises what httpx2 does."""
        try:
            async for data in answer.aiter_raw():
                yield data
        except httpx2.RequestError as failure:
            self._counted(problem_of(failure))
            raise
        self.metrics.ended(time.monotonic() - answer.extensions["headwater.began"])

    def _counted(self, problem: ProblemError) -> ProblemError:
        self.metrics.failed(problem.code)
        return problem

    async def close(self) -> None:
        await self._http.aclose()

    def _about_us(self, status: int) -> ProblemError | None:
        if 300 <= status < 400:
            return ProblemError(
                502, "upstream_redirects", "The language model's endpoint redirects: set --upstream to where it leads."
            )
        if status == 401 and not self._forwards_key:
            return ProblemError(502, "upstream_refuses_key", "The language model's endpoint refuses this server's key.")
        return None


def problem_of(failure: httpx2.RequestError) -> ProblemError:
    """What went wrong between this server and the upstream, without its address."""
    match failure:
        case httpx2.PoolTimeout():
            return ProblemError(
                503, "upstream_busy", "Too many chats are under way. Try again soon.", headers={"Retry-After": "1"}
            )
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return ProblemError(
                502, "upstream_unreachable", "The language model's endpoint could not be reached. Try again soon."
            )
        case httpx2.TimeoutException():
            return ProblemError(504, "upstream_timeout", "The language model's endpoint was silent for too long.")
        case _:
            return ProblemError(502, "upstream_broke_off", "The language model's endpoint broke its answer off.")
