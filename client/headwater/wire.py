"""How a call becomes an HTTP request, and a response an answer or an error: what both clients share."""

import ipaddress
import os
import warnings
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self

import httpx2
from pydantic import ValidationError

from headwater.calls import A, Call
from headwater.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    InsecureTransportWarning,
    error_class,
)
from headwater.retry import read_retry_after

__version__ = version("headwater")
DEFAULT_BASE_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 60.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the server is, and how it is spoken to."""

    base_url: httpx2.URL
    headers: dict[str, str] = field(repr=False)  # one of them may be the key
    timeout: float  # seconds

    @classmethod
    def find(cls, base_url: str | None, api_key: str | None, timeout: float) -> Self:
        """From the arguments, else HEADWATER_BASE_URL and HEADWATER_API_KEY, else the default address and no key."""
        url = parse_base_url(base_url or os.environ.get("HEADWATER_BASE_URL") or DEFAULT_BASE_URL)
        key = parse_api_key(os.environ.get("HEADWATER_API_KEY", "") if api_key is None else api_key)
        headers = {"Accept": "application/json", "User-Agent": f"headwater-python/{__version__}"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
            warn_if_readable(url)
        return cls(base_url=url, headers=headers, timeout=timeout)

    def request(self, call: Call[Any], http: httpx2.Client | httpx2.AsyncClient) -> httpx2.Request:
        """The HTTP request that makes this call, with the headers and cookies that a caller's own client adds."""
        timeout = self.timeout if call.timeout is None else call.timeout
        return http.build_request(
            call.method,
            str(self.base_url).rstrip("/") + call.path,
            headers=self.headers if call.content is None else self.headers | {"Content-Type": "application/json"},
            content=call.content,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
        )

    def connection_error(self, failure: httpx2.RequestError) -> APIConnectionError:
        """What a person can do about a request that got no answer."""
        if isinstance(failure, httpx2.ConnectTimeout):
            return APITimeoutError(f"{self.base_url} could not be reached in time. Is the address right?")
        if isinstance(failure, httpx2.TimeoutException):
            return APITimeoutError(
                f"{self.base_url} did not answer in time. Ask again later, or with a longer timeout."
            )
        reason = str(failure) or type(failure).__name__
        return APIConnectionError(
            f"No answer from {self.base_url}: {reason}. Is `headwater-serve` running there? "
            "The address is `base_url`, or HEADWATER_BASE_URL."
        )


def read_answer(call: Call[A], response: httpx2.Response) -> A:
    """The typed answer in a response; raises APIStatusError for one that is an error, APIResponseError for a riddle."""
    request_id = response.headers.get("X-Request-ID")
    if not response.is_success:
        raise status_error(response)
    try:
        answer = call.answer.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise APIResponseError(
            f"{response.url} did not answer with {call.answer.__name__}: {where}: {first['msg']}. "
            "Is it a Headwater server, and no newer than this client?",
            request_id=request_id,
        ) from error
    answer._request_id = request_id
    return answer


def status_error(response: httpx2.Response) -> APIStatusError:
    """The error that a response tells of, in the server's words where it has any."""
    problem = _json_object(response)
    error = problem.get("error")
    body: dict[str, Any] = error if isinstance(error, dict) else {}
    said = [body.get("message"), problem.get("detail"), problem.get("title")]
    fallback = f"{response.url} answered {response.reason_phrase or 'with an error'}"
    if location := response.headers.get("Location"):
        fallback = f"{response.url} redirects to {location}, which is not followed: make that the `base_url`"
    return error_class(response.status_code)(
        next((text for text in said if isinstance(text, str) and text), fallback),
        status_code=response.status_code,
        request_id=response.headers.get("X-Request-ID"),
        code=_text(body.get("code")),
        param=_text(body.get("param")),
        retry_after=read_retry_after(response.headers.get("Retry-After")),
    )


def parse_base_url(text: str) -> httpx2.URL:
    """An http or https address, perhaps with a path below which the server lies; ValueError for anything else."""
    advice = "give one like http://127.0.0.1:8000"
    try:
        url = httpx2.URL(text.strip())
    except httpx2.InvalidURL as error:
        raise ValueError(f"base_url {text!r} is not an address: {error}; {advice}") from error
    if url.userinfo:
        raise ValueError(f"base_url holds a name or password; {advice}, and the key as `api_key`")
    if url.scheme not in ("http", "https") or not url.host or "%" in url.host:  # a space, for one, is encoded
        raise ValueError(f"base_url {text!r} is not an http or https address; {advice}")
    if url.query or url.fragment or not (url.port is None or 0 < url.port < 65536):
        raise ValueError(f"base_url {text!r} has a query, a fragment or an impossible port; {advice}")
    return url


def parse_api_key(text: str) -> str:
    """The key, less the line end that files leave on it; ValueError, without the key, if no header can hold it."""
    key = text.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("api_key has characters that no HTTP header can carry; was it copied whole, and nothing else?")
    return key


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def warn_if_readable(url: httpx2.URL) -> None:
    """Warn when a key would travel over plain http to another host."""
    if url.scheme == "http" and not is_loopback(url.host):
        text = f"the key travels to {url.host} over plain http, where anyone on the way can read it: use https"
        warnings.warn(text, InsecureTransportWarning, stacklevel=5)  # whoever makes the client


def _json_object(response: httpx2.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
