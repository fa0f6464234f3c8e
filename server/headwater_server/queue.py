"""The bounded queue before the model: counted in tokens and requests, cut into batches of like lengths."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import ceil, inf
from threading import Condition
from typing import TYPE_CHECKING, Any

from headwater_server.errors import DeadlinePassed, QueueClosed, QueueFull

if TYPE_CHECKING:
    from headwater_indexer.index import Index, Pair

Clock = Callable[[], float]

_WINDOW = 64  # entries looked at when a batch is cut: enough to find like lengths, few enough to stay fair
SEARCHED_AHEAD = 64  # questions whose search is not done while the model goes on; a row may take a megabyte
TURNS = 1  # the same where both use the same cores: they would slow each other by a sixth
LARGEST_PART = 4  # so many pieces of the longest work fill the queue
_DROP_EVERY = 0.005  # seconds


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


class GradientQueue:
    """Bounded, first come first served but for like lengths; many threads put, one worker takes."""

    def __init__(
        self, *, max_tokens: int, max_requests: int, max_batch_tokens: int, clock: Clock = time.monotonic
    ) -> None:
        self.max_tokens = max_tokens
        self.max_requests = max_requests
        self.max_batch_tokens = max_batch_tokens
        self.clock = clock
        self.searched_ahead = SEARCHED_AHEAD
        self._entries: deque[Entry] = deque()
        self._tokens, self._room = 0, 0  # of what waits: for the model, and as the limit counts it
        self._running: list[Entry] = []
        self._arriving = 0
        self._searching: set[Entry] = set()
        self._left: set[Entry] = set()  # of those running
        self._dropped = -inf
        self._tokens_per_second = 0.0
        self._seconds_a_search = 0.0
        self._closed = False
        self._changed = Condition()

    @property
    def waiting(self) -> tuple[int, int]:
        """Requests and tokens that wait; those in the model's hands are not among them."""
        with self._changed:
            return len(self._entries), self._tokens

    @property
    def running(self) -> int:
        """Requests in the model's hands."""
        return len(self._running)

    @property
    def retry_after(self) -> int:
        """Queued tokens by measured tokens per second, in whole seconds; 1 before anything was measured."""
        with self._changed:
            return self._retry_after()

    def check_room(self) -> None:
        """Refuse before any work is done for a request that would be refused after it."""
        with self._changed:
            self._check_room(tokens=1, arriving=self._arriving)

    def put(self, entry: Entry) -> None:
        """Raises QueueFull, also for what would wait past its deadline, or QueueClosed.

        A question longer than the whole queue is taken when nothing waits.
        """
        with self._changed:
            self._check_room(self._room_of(entry))
            self._check_time(entry)
            self._entries.append(entry)
            self._recount()
            self._changed.notify()

    def put_first(self, entry: Entry) -> None:
        """Ahead of all that waits, whether there is room or not: the server's own work. Raises QueueClosed."""
        with self._changed:
            if self._closed:
                raise QueueClosed
            self._entries.appendleft(entry)
            self._recount()
            self._changed.notify()

    def take(self) -> list[Entry]:
        """Block until there is a batch, and searches have caught up; empty when the queue was closed.

        The entries are marked as running.
        """
        with self._changed:
            while True:
                self._drop_dead()
                if self._entries and len(self._searching) < self.searched_ahead:
                    if batch := self._take(self._entries[0]):
                        return batch
                    continue
                if self._closed:
                    return []
                self._changed.wait()

    def take_between(self) -> list[Entry]:
        """A batch of questions that need not wait for the work that runs; empty where there is none now."""
        with self._changed:
            self._drop_dead()
            if len(self._searching) >= self.searched_ahead:
                return []
            first = next((entry for entry in self._entries if entry.work is None), None)
            return [] if first is None else self._take(first)

    def require_wanted(self, entry: Entry) -> None:
        """Raises DeadlinePassed for running work whose time is over or whose client has gone, QueueClosed."""
        with self._changed:
            if self._closed:
                raise QueueClosed
            if entry in self._left or entry.deadline <= self.clock():
                raise DeadlinePassed

    def finished(self, batch: Sequence[Entry]) -> None:
        """What was taken is no longer in the model's hands, whatever became of it."""
        with self._changed:
            self._searching.update(entry for entry in batch if entry.searched and entry not in self._left)
            self._running = [entry for entry in self._running if entry not in batch]
            self._left.difference_update(batch)

    def let_go(self, entry: Entry) -> None:
        """Its row was searched, or nobody wants it any more: till then what the model is done with would pile up."""
        with self._changed:
            if entry in self._running:
                self._left.add(entry)
            self._searching.discard(entry)
            self._changed.notify()

    def done(self, tokens: int, seconds: float) -> None:
        """Measure: the speed is a moving mean, so that one slow batch does not frighten everyone away."""
        with self._changed:
            speed = tokens / max(seconds, 1e-6)
            self._tokens_per_second = (
                speed if self._tokens_per_second == 0 else 0.7 * self._tokens_per_second + 0.3 * speed
            )

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """For the time until a question is put, so that a burst is refused before its work. Raises as check_room."""
        with self._changed:
            self._check_room(tokens=1, arriving=self._arriving)
            self._arriving += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving -= 1

    def searched(self, questions: int, seconds: float) -> None:
        """Measure, as `done`: so many were searched together in this time."""
        with self._changed:
            each = seconds / questions
            self._seconds_a_search = each if self._seconds_a_search == 0 else 0.7 * self._seconds_a_search + 0.3 * each

    def close(self, error: Exception) -> None:
        """Refuse from now on, and answer what waits with `error`: no future is left hanging."""
        with self._changed:
            self._closed = True
            left = list(self._entries)
            self._entries.clear()
            self._recount()
            self._changed.notify_all()
        for entry in left:
            if entry.answer.set_running_or_notify_cancel():
                entry.answer.set_exception(error)

    def _check_room(self, tokens: int, arriving: int = 0) -> None:
        if self._closed:
            raise QueueClosed
        if not self._full(tokens, arriving):
            return
        if self.clock() - self._dropped > _DROP_EVERY:  # whoever is refused asks again, and looking at all takes time
            self._drop_dead()
        if self._full(tokens, arriving):
            raise QueueFull(self._retry_after())

    def _check_time(self, entry: Entry) -> None:
        """Better refused at once than accepted and then too late."""
        if self.clock() + self._seconds_before(entry) <= entry.deadline:
            return
        self._drop_dead()
        if self.clock() + self._seconds_before(entry) > entry.deadline:
            raise QueueFull(self._retry_after())

    def _seconds_before(self, entry: Entry) -> float:
        """Until its turn comes. Questions are answered between pieces of work, so that work is not before them."""
        before = [one for one in (*self._running, *self._entries) if entry.work is not None or one.work is None]
        return self._seconds(sum(one.tokens for one in before), len(before))

    def _full(self, tokens: int, arriving: int) -> bool:
        held = len(self._entries) + len(self._searching) + arriving
        if not held:
            return False
        held_tokens = self._room + sum(entry.tokens for entry in self._searching)
        return held >= self.max_requests or held_tokens + tokens > self.max_tokens

    def _room_of(self, entry: Entry) -> int:
        """One piece of work may cost more than the whole queue; it is not to wait until that is empty for this."""
        return entry.tokens if entry.work is None else min(entry.tokens, self.max_tokens // LARGEST_PART)

    def _recount(self) -> None:
        self._tokens = sum(entry.tokens for entry in self._entries)
        self._room = sum(self._room_of(entry) for entry in self._entries)

    def _retry_after(self) -> int:
        """Whole seconds until what is ahead is through."""
        tokens = self._tokens + sum(entry.tokens for entry in self._running)
        questions = len(self._entries) + len(self._running) + len(self._searching)
        return max(1, ceil(self._seconds(tokens, questions)))

    def _seconds(self, tokens: int, questions: int) -> float:
        """Model and search work side by side, so the slower one tells; 0 before anything was measured."""
        model = tokens / self._tokens_per_second if self._tokens_per_second else 0.0
        return max(model, questions * self._seconds_a_search)

    def _drop_dead(self) -> None:
        """Take out entries whose client has gone or whose time is over; they must not hold room."""
        now = self._dropped = self.clock()
        alive: deque[Entry] = deque()
        for entry in self._entries:
            if entry.answer.cancelled():
                entry.answer.set_running_or_notify_cancel()
            elif entry.deadline <= now:
                if entry.answer.set_running_or_notify_cancel():
                    entry.answer.set_exception(DeadlinePassed())
            else:
                alive.append(entry)
        self._entries = alive
        self._recount()

    def _take(self, oldest: Entry) -> list[Entry]:
        """Its batch, out of the queue and into the model's hands; empty when all of it was cancelled meanwhile."""
        chosen = [oldest] if oldest.work is not None else self._cut(oldest)
        self._entries = deque(entry for entry in self._entries if entry not in chosen)
        self._recount()
        batch = [entry for entry in chosen if entry.answer.set_running_or_notify_cancel()]
        self._running += batch
        return batch

    def _cut(self, oldest: Entry) -> list[Entry]:
        """This entry, and those of its index nearest to it in length while the padded batch fits the budget."""
        questions = (entry for entry in self._entries if entry.work is None)
        window = [entry for entry in islice(questions, _WINDOW) if entry.index is oldest.index]
        window.sort(key=lambda entry: entry.tokens)
        low = high = window.index(oldest)
        while True:
            shorter = window[low - 1] if low > 0 else None
            longer = window[high + 1] if high + 1 < len(window) else None
            size = high - low + 2
            if shorter and size * window[high].tokens > self.max_batch_tokens:
                shorter = None
            if longer and size * longer.tokens > self.max_batch_tokens:
                longer = None
            if shorter and (not longer or oldest.tokens - shorter.tokens <= longer.tokens - oldest.tokens):
                low -= 1
            elif longer:
                high += 1
            else:
                break
        return window[low : high + 1]
