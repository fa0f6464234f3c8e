"""What waits for the model: questions and work, and groups of them that know their sums."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater_indexer.index import Index, Pair


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the worker answers: the whitened gradient [width] or what `work` gave, and when it began and ended."""

    values: Any
    began: float
    ended: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One question waiting for its gradient, or `work` that needs the model alone.

    Cancelling `answer` takes it out; `deadline` is on the queue's clock, `cost` in tokens that the model will see.
    One that is `searched` afterwards holds room from `put` until it is let go.
    """

    index: "Index"
    pair: "Pair"
    deadline: float
    work: Callable[[], Any] | None = None
    cost: int | None = None  # None for the pair's own tokens
    searched: bool = False
    answer: "Future[Row]" = field(default_factory=Future)

    @property
    def tokens(self) -> int:
        return len(self.pair.input_ids) if self.cost is None else self.cost


class Entries:
    """A group in order, with sums that cost nothing to ask: who is refused must not wait for a look at all."""

    def __init__(self, largest_room: int) -> None:
        """A piece of work takes `largest_room` tokens of room at most."""
        self._entries: dict[Entry, None] = {}
        self._largest_room = largest_room
        self.tokens = self.room = 0  # for the model, and as a limit counts them
        self.questions, self.question_tokens = 0, 0  # of those that are no work

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._entries

    def add(self, entry: Entry) -> None:
        """At the end."""
        self._entries[entry] = None
        self._count(entry, 1)

    def add_first(self, entry: Entry) -> None:
        """Takes time for each that is there."""
        self._entries = {entry: None, **self._entries}
        self._count(entry, 1)

    def discard(self, entry: Entry) -> None:
        """Nothing happens for one that is not there."""
        if entry in self._entries:
            del self._entries[entry]
            self._count(entry, -1)

    def room_of(self, entry: Entry) -> int:
        """Work may cost more than fits anywhere; it is not to wait until there is nothing else for this."""
        return entry.tokens if entry.work is None else min(entry.tokens, self._largest_room)

    def _count(self, entry: Entry, times: int) -> None:
        self.room += times * self.room_of(entry)
        self.tokens += times * entry.tokens
        if entry.work is None:
            self.questions += times
            self.question_tokens += times * entry.tokens
