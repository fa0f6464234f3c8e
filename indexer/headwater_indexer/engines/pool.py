"""Actors of a Ray cluster that are given calls as they are free. One that dies is replaced, and its call made again.

Results come in the order of the calls, and no more than two for each actor are under way or waiting to be taken, so
that memory does not grow with their number.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from headwater_indexer.engines.cluster import first_line
from headwater_indexer.errors import ClusterError

T = TypeVar("T")
R = TypeVar("R")
TRIES = 4  # of one call, each on another actor: a fourth death in its hands is the call's own fault
PATIENCE = 600.0  # seconds that no actor may answer: long enough to load a large model


class Pool(Generic[T, R]):
    """`make` gives a new actor; its method `ready` returns when it can work, and raises what it lacks."""

    def __init__(self, ray: Any, make: Callable[[], Any], size: int, *, patience: float = PATIENCE) -> None:
        self._ray = ray
        self._make = make
        self._patience = patience
        self._getting_ready: dict[Any, Any] = {}
        self._free: deque[Any] = deque()
        self._size = size
        self._begun = False
        self._stillborn = 0  # in a row
        self.replaced = 0

    def map(self, call: Callable[[Any, T], Any], items: Iterable[T]) -> Iterator[R]:
        """`call(actor, item)` for each item. Raises what the call raised, and ClusterError when no actor is left."""
        self._begin()
        work: _Work[T, R] = _Work(enumerate(items))
        try:
            while True:
                yield from work.in_order()
                self._give(call, work)
                if not work.flying:
                    if work.done_with_all:
                        return
                    if not self._getting_ready:
                        raise ClusterError("no worker of the cluster is left")
                self._take(work)
        finally:
            for actor, _, _ in work.flying.values():  # whatever they still do is not wanted
                self._replace(actor)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for _ in range(self._size):
                self._add()

    def _add(self) -> None:
        actor = self._make()
        self._getting_ready[actor.ready.remote()] = actor

    def _replace(self, actor: Any) -> None:
        self._ray.kill(actor, no_restart=True)
        self.replaced += 1
        self._add()

    def _give(self, call: Callable[[Any, T], Any], work: "_Work[T, R]") -> None:
        while self._free and (given := work.next(2 * self._size)) is not None:
            number, item = given
            actor = self._free.popleft()
            work.flying[call(actor, item)] = (actor, number, item)

    def _take(self, work: "_Work[T, R]") -> None:
        waited, _ = self._ray.wait([*work.flying, *self._getting_ready], num_returns=1, timeout=self._patience)
        if not waited:
            raise ClusterError(
                f"no worker of the cluster has answered for {self._patience:.0f} s: `ray status` says what it has. "
                "What was finished stays; the same command resumes."
            )
        [ref] = waited
        if ref in self._getting_ready:
            self._welcome(self._getting_ready.pop(ref), ref)
        else:
            self._land(ref, work)

    def _welcome(self, actor: Any, ref: Any) -> None:
        if self._got(ref) is not None:
            self._stillborn = 0
            self._free.append(actor)
            return
        self._stillborn += 1
        if self._stillborn == TRIES * self._size:
            raise ClusterError("workers die before they are ready: they may have too little memory for the model")
        self._replace(actor)

    def _land(self, ref: Any, work: "_Work[T, R]") -> None:
        actor, number, item = work.flying.pop(ref)
        try:
            found = self._got(ref)
        except Exception:
            self._free.append(actor)  # it was the call that failed
            raise
        if found is None:
            self._replace(actor)
            work.again(number, item)
        else:
            work.done[number] = found[0]
            self._free.append(actor)

    def _got(self, ref: Any) -> tuple[R] | None:
        """The result; None where the actor, its node or what it kept is lost. Raises what the call itself raised."""
        lost = self._ray.exceptions
        try:
            return (self._ray.get(ref),)
        except lost.RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from None
            raise ClusterError(f"a worker failed: {first_line(error)}") from error
        except (lost.RayActorError, lost.ObjectLostError, lost.WorkerCrashedError, lost.NodeDiedError):
            return None

    def close(self) -> None:
        """Ends all actors."""
        for actor in (*self._free, *self._getting_ready.values()):
            self._ray.kill(actor, no_restart=True)
        self._free.clear()
        self._getting_ready.clear()
        self._begun = False


class _Work(Generic[T, R]):
    """The calls of one `map`: what is to be done, under way, and done before its turn."""

    def __init__(self, items: Iterator[tuple[int, T]]) -> None:
        self._items = items
        self._waiting: deque[tuple[int, T]] = deque()
        self._tries: Counter[int] = Counter()
        self._told = 0
        self.flying: dict[Any, tuple[Any, int, T]] = {}
        self.done: dict[int, R] = {}
        self._exhausted = False

    @property
    def done_with_all(self) -> bool:
        return self._exhausted and not self._waiting

    def in_order(self) -> Iterator[R]:
        """The results whose turn it is."""
        while self._told in self.done:
            self._told += 1
            yield self.done.pop(self._told - 1)

    def next(self, most: int) -> tuple[int, T] | None:
        """A call to make; None where there is none, or where `most` are under way or wait for their turn."""
        if self._waiting:
            return self._waiting.popleft()
        if self._exhausted or len(self.flying) + len(self.done) >= most:
            return None
        given = next(self._items, None)
        self._exhausted = given is None
        return given

    def again(self, number: int, item: T) -> None:
        """Raises ClusterError for a call that one actor after the other died of."""
        self._tries[number] += 1
        if self._tries[number] == TRIES:
            raise ClusterError(
                f"{TRIES} workers died one after the other at the same work: they may have too little memory; give "
                "each more, or a lower --batch-tokens"
            )
        self._waiting.append((number, item))
