"""The bounded queue before the model: counted in tokens and requests, cut into batches of like lengths."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from math import ceil, inf
from threading import Condition

from headwater_server.entries import Entries, Entry
from headwater_server.errors import DeadlinePassed, QueueClosed, QueueFull

Clock = Callable[[], float]

_WINDOW = 64  # entries looked at when a batch is cut: enough to find like lengths, few enough to stay fair
SEARCHED_AHEAD = 64  # questions whose search is not done while the model goes on; a row may take a megabyte
TURNS = 1  # the same where both use the same cores: they would slow each other by a sixth
LARGEST_PART = 4  # so many pieces of the longest work fill the queue
_DROP_EVERY = 0.005  # seconds


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
        self._waiting, self._running, self._searching = (Entries(max_tokens // LARGEST_PART) for _ in range(3))
        self._arriving = 0
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
            return len(self._waiting), self._waiting.tokens

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
            self._check_room(self._waiting.room_of(entry))
            self._refuse_if(lambda: self._too_late(entry))
            self._waiting.add(entry)
            self._changed.notify()

    def put_first(self, entry: Entry) -> None:
        """Ahead of all that waits, whether there is room or not: the server's own work. Raises QueueClosed."""
        with self._changed:
            if self._closed:
                raise QueueClosed
            self._waiting.add_first(entry)
            self._changed.notify()

    def take(self) -> list[Entry]:
        """Block until there is a batch, and searches have caught up; empty when the queue was closed.

        The entries are marked as running.
        """
        with self._changed:
            while True:
                self._drop_dead()
                if self._waiting and len(self._searching) < self.searched_ahead:
                    if batch := self._take(next(iter(self._waiting))):
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
            first = next((entry for entry in self._waiting if entry.work is None), None)
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
            for entry in batch:
                if entry.searched and entry not in self._left:
                    self._searching.add(entry)
                self._running.discard(entry)
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
            left = list(self._waiting)
            for entry in left:
                self._waiting.discard(entry)
            self._changed.notify_all()
        for entry in left:
            if entry.answer.set_running_or_notify_cancel():
                entry.answer.set_exception(error)

    def _check_room(self, tokens: int, arriving: int = 0) -> None:
        if self._closed:
            raise QueueClosed
        self._refuse_if(lambda: self._full(tokens, arriving))

    def _refuse_if(self, hopeless: Callable[[], bool]) -> None:
        """Not for the sake of entries that are dead; but whoever is refused asks again, and looking for them takes
        time, so that it is done only so often."""
        if not hopeless():
            return
        if self.clock() - self._dropped > _DROP_EVERY:
            self._drop_dead()
            if not hopeless():
                return
        raise QueueFull(self._retry_after())

    def _full(self, tokens: int, arriving: int) -> bool:
        held = len(self._waiting) + len(self._searching) + arriving
        if not held:
            return False
        return held >= self.max_requests or self._waiting.room + self._searching.tokens + tokens > self.max_tokens

    def _too_late(self, entry: Entry) -> bool:
        """Better refused at once than accepted and answered past its deadline."""
        groups = (self._running, self._waiting)
        if entry.work is not None:
            tokens, count = sum(group.tokens for group in groups), sum(map(len, groups))
        else:  # questions are answered between pieces of work, so that work is not before them
            tokens, count = sum(group.question_tokens for group in groups), sum(group.questions for group in groups)
        return self.clock() + self._seconds(tokens, count) > entry.deadline

    def _retry_after(self) -> int:
        """Whole seconds until what is ahead is through."""
        tokens = self._waiting.tokens + self._running.tokens
        questions = len(self._waiting) + len(self._running) + len(self._searching)
        return max(1, ceil(self._seconds(tokens, questions)))

    def _seconds(self, tokens: int, questions: int) -> float:
        """Model and search work side by side, so the slower one tells; 0 before anything was measured."""
        model = tokens / self._tokens_per_second if self._tokens_per_second else 0.0
        return max(model, questions * self._seconds_a_search)

    def _drop_dead(self) -> None:
        """Take out entries whose client has gone or whose time is over; they must not hold room."""
        now = self._dropped = self.clock()
        for entry in list(self._waiting):
            if not entry.answer.cancelled() and entry.deadline > now:
                continue
            self._waiting.discard(entry)
            if entry.answer.set_running_or_notify_cancel():
                entry.answer.set_exception(DeadlinePassed())

    def _take(self, oldest: Entry) -> list[Entry]:
        """Its batch, out of the queue and into the model's hands; empty when all of it was cancelled meanwhile."""
        chosen = [oldest] if oldest.work is not None else self._cut(oldest)
        for entry in chosen:
            self._waiting.discard(entry)
        batch = [entry for entry in chosen if entry.answer.set_running_or_notify_cancel()]
        for entry in batch:
            self._running.add(entry)
        return batch

    def _cut(self, oldest: Entry) -> list[Entry]:
        """This entry, and those of its index nearest to it in length while the padded batch fits the budget."""
        questions = (entry for entry in self._waiting if entry.work is None)
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
