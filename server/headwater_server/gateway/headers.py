"""Which headers pass through the gateway: none that belong to one connection, and no key but by configuration."""

from collections.abc import Iterable

# RFC 9110, 7.6.1, with those that older proxies know.
_OF_A_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
_OF_THE_CALLER = frozenset({"authorization", "api-key", "x-api-key", "cookie"})  # they may be keys
_MADE_ANEW = frozenset({"host", "content-length", "x-request-id", "expect"})
# What the upstream says of itself to browsers would hold for this server: cookies, other origins, other protocols.
_OF_THE_UPSTREAM = frozenset(
    {"date", "server", "set-cookie", "alt-svc", "strict-transport-security", "clear-site-data"}
)

Pairs = list[tuple[str, str]]


def to_upstream(headers: Iterable[tuple[str, str]], *, authorization: str | None, request_id: str | None) -> Pairs:
    """What the upstream gets of a caller's headers. The caller's keys stay here; `authorization` goes instead."""
    passing = _without(headers, _OF_THE_CALLER | _MADE_ANEW)
    if authorization is not None:
        passing.append(("authorization", authorization))
    if request_id is not None:
        passing.append(("x-request-id", request_id))
    return passing


def to_caller(headers: Iterable[tuple[str, str]], *, altered: bool) -> Pairs:
    """What the caller gets of the upstream's headers; the length only of a body that is passed on as it is."""
    passing = _without(headers, _OF_THE_UPSTREAM | ({"content-length"} if altered else set()))
    return [(name, value) for name, value in passing if not name.lower().startswith("access-control-")]


def _without(headers: Iterable[tuple[str, str]], dropped: frozenset[str]) -> Pairs:
    given = list(headers)
    named = {word.strip().lower() for name, value in given if name.lower() == "connection" for word in value.split(",")}
    return [(name, value) for name, value in given if name.lower() not in dropped | _OF_A_CONNECTION | named]
