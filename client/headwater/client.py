"""Client and AsyncClient: the same questions, asked of a server with and without `await`."""

import inspect
import random
from collections.abc import Awaitable, Callable
from functools import wraps
from time import sleep
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args

import anyio
import httpx2

from headwater import calls
from headwater.calls import A, Call
from headwater.retry import MAX_RETRIES, is_temporary, pause_before_retry, read_retry_after
from headwater.wire import DEFAULT_TIMEOUT, Endpoint, is_loopback, read_answer

P = ParamSpec("P")
M = TypeVar("M", bound=Callable[..., Any])
Outcome = httpx2.Response | httpx2.RequestError


class Core:
    """What the two clients share: where the server is, how often to ask, and what to make of an outcome."""

    def __init__(self, base_url: str | None, api_key: str | None, timeout: float, max_retries: int) -> None:
        if max_retries < 0 or not timeout > 0:
            raise ValueError(f"max_retries={max_retries} must not be negative, and timeout={timeout} must be positive")
        self._endpoint = Endpoint.find(base_url, api_key, timeout)
        self._max_retries = max_retries
        self._jitter = random.Random()  # noqa: S311 (spreads clients out in time; hides nothing)

    @property
    def base_url(self) -> str:
        """The server's address."""
        return str(self._endpoint.base_url)

    @property
    def _trust_env(self) -> bool:
        """A proxy in the environment is for other hosts: it has no way to this machine's loopback."""
        return not is_loopback(self._endpoint.base_url.host)

    def _pause(self, call: Call[Any], attempt: int, outcome: Outcome) -> float | None:
        """Seconds to wait before asking again, or None when this outcome is the last."""
        if not call.retried or attempt >= self._max_retries:
            return None
        if isinstance(outcome, httpx2.RequestError):
            return pause_before_retry(attempt, None, self._jitter)
        if not is_temporary(outcome.status_code):
            return None
        return pause_before_retry(attempt, read_retry_after(outcome.headers.get("Retry-After")), self._jitter)

    def _conclude(self, call: Call[A], outcome: Outcome) -> A:
        if isinstance(outcome, httpx2.RequestError):
            raise self._endpoint.connection_error(outcome) from outcome
        return read_answer(call, outcome)


def _signed(method: M, build: Callable[..., Call[Any]]) -> M:
    """The method with the signature that `help` should show: the call's arguments, and its answer."""
    signature = inspect.signature(build)
    client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    (answer,) = get_args(signature.return_annotation)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[client, *signature.parameters.values()], return_annotation=answer
    )
    return method


def blocking(build: Callable[P, Call[A]]) -> "Callable[Concatenate[Client, P], A]":
    """The method of Client that makes this call."""

    @wraps(build)
    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> A:
        return client._ask(build(*args, **kwargs))

    return _signed(method, build)


def awaitable(build: Callable[P, Call[A]]) -> "Callable[Concatenate[AsyncClient, P], Awaitable[A]]":
    """The method of AsyncClient that makes this call."""

    @wraps(build)
    async def method(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> A:
        return await client._ask(build(*args, **kwargs))

    return _signed(method, build)


class Client(Core):
    """A Headwater server, for code that waits for its answers. Safe to share between threads.

        with Client() as headwater:
            answer = headwater.attribute(prompt="To be, or not to be,", response=" that is the question")
            for document in answer.data:
                print(document.rank, document.score, document.document_id)

    | option      | meaning                                                              | default                     |
    |-------------|----------------------------------------------------------------------|-----------------------------|
    | base_url    | the server's address                                                 | HEADWATER_BASE_URL, else    |
    |             |                                                                      | http://127.0.0.1:8000       |
    | api_key     | the key that the server asks for; "" for none                        | HEADWATER_API_KEY           |
    | timeout     | seconds of silence before an attempt is given up; 5 at most to       | 60                          |
    |             | connect                                                              |                             |
    | max_retries | how often to ask again when that may help                            | 2                           |
    | http_client | an httpx2 client of your own, for proxies or certificates; you close | one that is closed with     |
    |             | it                                                                   | this client                 |
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = MAX_RETRIES,
        http_client: httpx2.Client | None = None,
    ) -> None:
        super().__init__(base_url, api_key, timeout, max_retries)
        self._owns_http = http_client is None
        self._http = http_client or httpx2.Client(trust_env=self._trust_env)

    attribute = blocking(calls.attribute)
    attribute_batch = blocking(calls.attribute_batch)
    attribution = blocking(calls.attribution)
    explain = blocking(calls.explain)
    document = blocking(calls.document)
    indexes = blocking(calls.indexes)
    index = blocking(calls.index)
    reload = blocking(calls.reload)
    health = blocking(calls.health)

    def close(self) -> None:
        """Close the connections; a caller's own http client stays open."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call[A]) -> A:
        attempt, outcome = 0, self._attempt(call)
        while (pause := self._pause(call, attempt, outcome)) is not None:
            sleep(pause)
            attempt, outcome = attempt + 1, self._attempt(call)
        return self._conclude(call, outcome)

    def _attempt(self, call: Call[Any]) -> Outcome:
        try:
            return self._http.send(self._endpoint.request(call, self._http))
        except httpx2.RequestError as failure:
            return failure


class AsyncClient(Core):
    """A Headwater server, for code that awaits its answers: asyncio or trio. Options and questions are Client's."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = MAX_RETRIES,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        super().__init__(base_url, api_key, timeout, max_retries)
        self._owns_http = http_client is None
        self._http = http_client or httpx2.AsyncClient(trust_env=self._trust_env)

    attribute = awaitable(calls.attribute)
    attribute_batch = awaitable(calls.attribute_batch)
    attribution = awaitable(calls.attribution)
    explain = awaitable(calls.explain)
    document = awaitable(calls.document)
    indexes = awaitable(calls.indexes)
    index = awaitable(calls.index)
    reload = awaitable(calls.reload)
    health = awaitable(calls.health)

    async def close(self) -> None:
        """Close the connections; a caller's own http client stays open."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, call: Call[A]) -> A:
        attempt, outcome = 0, await self._attempt(call)
        while (pause := self._pause(call, attempt, outcome)) is not None:
            await anyio.sleep(pause)
            attempt, outcome = attempt + 1, await self._attempt(call)
        return self._conclude(call, outcome)

    async def _attempt(self, call: Call[Any]) -> Outcome:
        try:
            return await self._http.send(self._endpoint.request(call, self._http))
        except httpx2.RequestError as failure:
            return failure
