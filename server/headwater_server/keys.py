"""API keys: readers ask, administrators also reload. Kept as SHA-256, all compared and in constant time."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Depends, Request
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from headwater_server.problems import ProblemError, problem_app

Role = Literal["reader", "administrator"]
SHORTEST_KEY = 16  # characters
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")

# The rest is denied without a key. The page and /docs are files without content of an index.
PROBES = frozenset({"/livez", "/readyz", "/health"})
PUBLIC_PATHS = PROBES | {"/", "/docs"}
PUBLIC_FOLDER = "/page/"


def digest(key: str) -> bytes:
    """SHA-256 of a key, which may be given as `sha256:` and 64 hex digits. Raises ValueError, without the key."""
    if key.startswith("sha256:"):
        found = _HASHED.fullmatch(key)
        if found is None:
            raise ValueError("a hashed API key is `sha256:` and 64 hex digits: printf %s KEY | sha256sum")
        return bytes.fromhex(found[1])
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"an API key is shorter than {SHORTEST_KEY} characters: make one with `openssl rand -hex 32`")
    return _hash(key)


class KeyCheck:
    """Default-deny once keys are set; who asks stands in the scope as `headwater.role`."""

    def __init__(self, app: ASGIApp, *, readers: Sequence[SecretStr], administrators: Sequence[SecretStr]) -> None:
        self.app = app
        self._known: list[tuple[bytes, Role]] = [(digest(key.get_secret_value()), "reader") for key in readers]
        self._known += [(digest(key.get_secret_value()), "administrator") for key in administrators]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        role = scope["headwater.role"] = self._role(scope)
        if role or not self._known or _public(scope["path"]):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await problem_app(_unknown())(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _role(self, scope: Scope) -> Role | None:
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        given = _hash(token.strip())
        roles = [role for known, role in self._known if secrets.compare_digest(given, known)]  # no early end
        if kind.lower() != "bearer" or not roles:
            return None
        return "administrator" if "administrator" in roles else "reader"


async def _require_administrator(request: Request) -> None:
    """Also where no keys are set: what changes the server is never open by default."""
    if request.scope.get("headwater.role") != "administrator":
        raise ProblemError(
            403, "admin_key_required", "This wants an administrator's key, which HEADWATER_ADMIN_KEYS sets."
        )


AdministratorOnly = Annotated[None, Depends(_require_administrator)]


def _unknown() -> ProblemError:
    return ProblemError(
        401,
        "invalid_api_key",
        "This server wants a key: send the header `Authorization: Bearer KEY`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _public(path: str) -> bool:
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_FOLDER)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
