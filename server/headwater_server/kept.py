"""Attributions kept for a while under the ids that their answers or chats name; in memory, and bounded."""

import asyncio
import secrets
import time
from collections.abc import Callable

from headwater.types import Attribution
from headwater_server.problems import ProblemError


class KeptAttributions:
    """The oldest go when there are too many, when they are too large together, or too old. For one event loop.

    Sizes are in bytes of JSON, ages in seconds. Ids are random: whoever can name one was told it.
    """

    def __init__(
        self,
        *,
        max_count: int = 1_000,
        max_bytes: int = 64 * 1024 * 1024,
        max_age: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_count = max_count
        self.max_bytes = max_bytes
        self.max_age = max_age
        self._clock = clock
        self._bytes = 0
        self._kept: dict[str, _Kept] = {}  # in the order of their age

    def __len__(self) -> int:
        return len(self._kept)

    def expect(self) -> str:
        """An id for an attribution that is still to be made; whoever asks for it waits."""
        identity = f"attr_{secrets.token_hex(12)}"
        self._kept[identity] = _Kept(self._clock())
        self._forget()
        return identity

    def keep(self, answer: Attribution) -> None:
        """Under the id that it has, which `expect` gave."""
        self._settle(answer.id, answer.model_dump_json().encode())

    def add(self, answer: Attribution) -> bytes:
        """Keep what nobody has waited for. As JSON, as whoever asks for it later gets it too."""
        body = answer.model_dump_json().encode()
        self._kept[answer.id] = _Kept(self._clock())
        self._settle(answer.id, body)
        return body

    def fail(self, identity: str, why: ProblemError) -> None:
        """There will be no such attribution; asking for it gets the reason."""
        self._settle(identity, why)

    async def get(self, identity: str) -> bytes:
        """The attribution as JSON, waited for while it is made. Raises ProblemError: the reason, or 404."""
        self._forget()
        kept = self._kept.get(identity)
        if kept is None:
            raise _not_found()
        await kept.settled.wait()
        if isinstance(kept.outcome, ProblemError):
            raise kept.outcome.with_traceback(None)  # it is raised to all who ask
        return kept.outcome

    def _settle(self, identity: str, outcome: bytes | ProblemError) -> None:
        kept = self._kept.get(identity)
        if kept is not None and not kept.settled.is_set():
            kept.settle(outcome)
            self._bytes += kept.size
            self._forget()

    def _forget(self) -> None:
        oldest = self._clock() - self.max_age
        while self._kept:
            identity, kept = next(iter(self._kept.items()))
            if kept.began >= oldest and len(self._kept) <= self.max_count and self._bytes <= self.max_bytes:
                break
            self._bytes -= kept.size
            del self._kept[identity]
            if not kept.settled.is_set():
                kept.settle(_not_found())  # or whoever waits would wait for ever


class _Kept:
    """One attribution, or why there is none, once it is settled."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.settled = asyncio.Event()
        self.outcome: bytes | ProblemError = b""

    def settle(self, outcome: bytes | ProblemError) -> None:
        self.outcome = outcome
        self.settled.set()

    @property
    def size(self) -> int:
        return len(self.outcome) if isinstance(self.outcome, bytes) else 0


def _not_found() -> ProblemError:
    return ProblemError(
        404, "attribution_not_found", "No attribution is kept under that id, or no longer.", param="attribution_id"
    )
