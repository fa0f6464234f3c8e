"""Searches of rows that come while another search runs are made together: a pass over an index costs little more."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.types import Score, Sign
from headwater_server.threads import Threads

if TYPE_CHECKING:
    from headwater_indexer.index import Index
    from headwater_indexer.search import Hit

TOGETHER = 64  # questions of one pass, at most
Kind = tuple[int, Score, Sign]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    wanted: "Wanted"
    hits: "asyncio.Future[list[Hit]]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, eq=False)
class Wanted:
    """The documents nearest to a row [width]; with `among`, of these alone."""

    row: Any
    top_k: int = field(kw_only=True)
    score: Score = field(kw_only=True)
    sign: Sign = field(kw_only=True)
    among: np.ndarray | None = field(kw_only=True, default=None)


class Searches:
    """One pass at a time for each index, score and sign; a filter's documents are searched by themselves."""

    def __init__(
        self, threads: Threads, *, on_search: Callable[[int, float], None], clock: Callable[[], float]
    ) -> None:
        """`on_search` is told how many questions a pass answered, and its seconds."""
        self._threads = threads
        self._on_search = on_search
        self._clock = clock
        self._waiting: dict[Kind, list[_Waiting]] = defaultdict(list)
        self._passes: dict[Kind, asyncio.Task[None]] = {}

    async def find(self, index: "Index", wanted: Wanted) -> "list[Hit]":
        """The most influential first. Cancelled before its pass begins, it is left out."""
        if wanted.among is not None:
            return (await self._search(index, [wanted]))[0]
        kind = (id(index), wanted.score, wanted.sign)
        waiting = _Waiting(wanted=wanted)
        self._waiting[kind].append(waiting)
        if kind not in self._passes:
            self._passes[kind] = asyncio.create_task(self._empty(kind, index))
        return await waiting.hits

    async def _empty(self, kind: Kind, index: "Index") -> None:
        """Pass after pass until nobody waits."""
        try:
            while batch := self._take(kind):
                await self._answer(index, batch)
        finally:
            del self._passes[kind]
            for one in self._waiting.pop(kind):  # none, but for a server that stops
                one.hits.cancel()

    def _take(self, kind: Kind) -> list[_Waiting]:
        waiting = [one for one in self._waiting[kind] if not one.hits.done()]
        self._waiting[kind] = waiting[TOGETHER:]
        return waiting[:TOGETHER]

    async def _answer(self, index: "Index", batch: list[_Waiting]) -> None:
        try:
            found = await self._search(index, [one.wanted for one in batch])
        except asyncio.CancelledError:
            for one in batch:
                one.hits.cancel()
            raise
        except Exception as error:  # noqa: BLE001  it belongs to the questions, each of which waits for it
            outcomes: list[Any] = [error] * len(batch)
        else:
            outcomes = list(found)
        for one, outcome in zip(batch, outcomes, strict=True):
            if one.hits.done():  # its client left
                continue
            if isinstance(outcome, Exception):
                one.hits.set_exception(outcome)
            else:
                one.hits.set_result(outcome)

    async def _search(self, index: "Index", batch: list[Wanted]) -> "list[list[Hit]]":
        """In a thread, for the longest of their lists."""
        began = self._clock()
        found = await self._threads.search(_search_together, index, batch)
        self._on_search(len(batch), self._clock() - began)
        return [hits[: wanted.top_k] for hits, wanted in zip(found, batch, strict=True)]


def _search_together(index: "Index", batch: list[Wanted]) -> "list[list[Hit]]":
    first, top_k = batch[0], max(wanted.top_k for wanted in batch)
    rows = np.stack([wanted.row for wanted in batch])  # tens of megabytes: not for the event loop
    return index.search(rows, top_k=top_k, score=first.score, sign=first.sign, among=first.among)
