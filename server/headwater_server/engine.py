"""What a server asks: one or more open indexes, the queue before their models, and threads for search and reading."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

from headwater.types import (
    Asked,
    AttributeRequest,
    Attribution,
    DocumentRecord,
    ExplainRequest,
    Explanation,
    IndexInfo,
    Timings,
)
from headwater_indexer.errors import HeadwaterError
from headwater_server.answers import document_record, index_info
from headwater_server.asking import Asking
from headwater_server.entries import Entry
from headwater_server.errors import (
    DeadlinePassed,
    NotReady,
    QueueFull,
    ReloadFailed,
    ReloadUnderWay,
    TextWithheld,
    UnknownIndex,
)
from headwater_server.kept import KeptAttributions
from headwater_server.library import Library
from headwater_server.metrics import Metrics
from headwater_server.queue import TURNS, GradientQueue
from headwater_server.refusals import refusal
from headwater_server.settings import Settings
from headwater_server.threads import Threads
from headwater_server.worker import Worker

if TYPE_CHECKING:
    from headwater_indexer.index import Index

log = logging.getLogger("headwater.engine")
_WARM_UP = "a warm-up, so that the first question is not the slow one"
State = Literal["loading", "ready", "draining", "failed"]
Opener = Callable[[], "Index"]
Q = TypeVar("Q", bound=Asked)
A = TypeVar("A", Attribution, Explanation)


class Engine:
    """Opens the indexes beside the event loop, then answers. Made once, started once, closed once."""

    def __init__(
        self, openers: Mapping[str, Opener], settings: Settings, *, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self.settings = settings
        self.state: State = "loading"
        self.failure: BaseException | None = None
        self.library = Library()
        self.kept = KeptAttributions(
            max_count=settings.keep_attributions, max_bytes=settings.keep_bytes, max_age=settings.keep_seconds
        )
        self.on_failure = on_failure
        self.on_answer: Callable[[Timings], None] = lambda _: None
        self.queue = GradientQueue(
            max_tokens=settings.max_queue_tokens,
            max_requests=settings.max_queue_requests,
            max_batch_tokens=settings.max_batch_tokens,
        )
        self.metrics = Metrics(self)
        self.worker = Worker(self.queue, on_death=self._worker_died, on_batch=self.metrics.batched)
        self._openers = dict(openers)
        self._reloading: set[str] = set()
        self._loader: threading.Thread | None = None
        self._starting = threading.Lock()  # a worker must not start once draining has begun
        self._threads = Threads()
        self.asking = Asking(self.queue, self._threads, settings)

    def start(self) -> None:
        """Open the indexes in a thread; questions are refused until `state` is ready."""
        self._loader = threading.Thread(target=self._load, name="headwater-load", daemon=True)
        self._loader.start()

    def _load(self) -> None:
        """Open every index and warm its model up. What goes wrong stands in `failure`."""
        try:
            for name, open_index in self._openers.items():
                if self.state == "draining":
                    return
                began = time.monotonic()
                index = open_index()
                self.library.put(name, index)
                if index.checkpoint.device.type == "cpu":
                    self.queue.searched_ahead = TURNS
                self._warm_up(index)
                _tell_ready(name, index, time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001  a thread that ends unseen would leave the server loading for ever
            self.state, self.failure = "failed", error
            self.on_failure()
            return
        with self._starting:
            if self.state == "loading":
                self.worker.start()
                self.state = "ready"

    def drain(self) -> None:
        """Take no new questions; those taken are answered."""
        with self._starting:
            if self.state != "failed":
                self.state = "draining"

    def close(self) -> None:
        """Stop the threads and let go of the files. Safe after a failed or unfinished load."""
        self.drain()
        if self._loader is not None:
            self._loader.join(self.settings.drain_timeout)
        self.queue.close(NotReady("draining"))
        self.worker.join(self.settings.drain_timeout)
        self._threads.close()
        self.library.close()

    def checks(self) -> dict[str, bool]:
        """What must hold for a question to be answered, by name."""
        return {
            "indexes_loaded": len(self.library) == len(self._openers) and self.state != "loading",
            "model_worker_alive": self.worker.alive,
            "not_draining": self.state != "draining",
            "no_failure": self.state != "failed",
        }

    def index(self, name: str) -> "Index":
        try:
            return self.library[name]
        except KeyError:
            self.require_loaded()
            raise UnknownIndex(name) from None

    @contextmanager
    def lent(self, name: str) -> Iterator["Index"]:
        """The index for the time of a question: a reload closes it afterwards."""
        self.index(name)
        with self.library.lend(name) as index:
            yield index

    def require_loaded(self) -> None:
        if self.state == "loading":
            raise NotReady("loading")
        if self.state == "failed":
            raise NotReady("failed")

    def infos(self) -> list[IndexInfo]:
        self.require_loaded()
        return [index_info(name, index, self.settings) for name, index in self.library.items()]

    def info(self, name: str) -> IndexInfo:
        return index_info(name, self.index(name), self.settings)

    async def document(self, index: str, document_id: str) -> DocumentRecord | None:
        if self.settings.withhold_text:
            raise TextWithheld
        with self.lent(index) as held:
            found = await self._threads.read(held.documents.by_id, document_id)
        return None if found is None else document_record(found)

    async def reload(self, name: str) -> IndexInfo:
        """Open the index anew, warm it up, and let it take the name; questions under way finish with the one before.

        Raises ReloadFailed when it cannot be served, and then nothing has changed; ReloadUnderWay.
        """
        self._require_taking()
        self.index(name)
        if name in self._reloading:
            raise ReloadUnderWay(name)
        self._reloading.add(name)
        began = time.monotonic()
        try:
            index = await asyncio.to_thread(self._openers[name])
            await self._warm_up_beside(index)
        except Exception as error:
            log.error("index %s was not reloaded: %s", name, error)
            raise ReloadFailed(f"{error}" if isinstance(error, HeadwaterError) else type(error).__name__) from error
        finally:
            self._reloading.discard(name)
        self.library.put(name, index)
        _tell_ready(name, index, time.monotonic() - began)
        return index_info(name, index, self.settings)

    async def _warm_up_beside(self, index: "Index") -> None:
        """By the model's own thread, between two batches: indexes may share a model, which has one user at a time."""
        pair = index.encode("", _WARM_UP)
        entry = Entry(index=index, pair=pair, deadline=math.inf)
        try:
            self.queue.put_first(entry)
            await asyncio.wrap_future(entry.answer)
        except BaseException:
            index.close()
            raise

    async def kept_attribution(self, identity: str) -> bytes:
        """As JSON; waited for while it is made. Raises ProblemError when there is none, DeadlinePassed."""
        try:
            async with asyncio.timeout(self.settings.request_timeout):
                return await self.kept.get(identity)
        except TimeoutError:
            raise DeadlinePassed from None

    async def attribute_batch(self, questions: Sequence[AttributeRequest]) -> list[Attribution | BaseException]:
        """What became of each, in their order. Raises NotReady and QueueFull where the first would not be taken."""
        self._require_taking()
        self.queue.check_room()
        return await asyncio.gather(*map(self.attribute, questions), return_exceptions=True)

    async def attribute(self, question: AttributeRequest) -> Attribution:
        """Raises DeadlinePassed past the request's time; cancelling takes the question out of the queue."""
        slow = question.rescore is not None
        seconds = self.settings.slow_request_timeout if slow else self.settings.request_timeout
        return await self._asked(question, self.asking.attribute, seconds)

    async def explain(self, question: ExplainRequest) -> Explanation:
        """Raises as `attribute` does, and UnknownDocument, and IndexLacks where the build kept no factors."""
        return await self._asked(question, self.asking.explain, self.settings.slow_request_timeout)

    async def _asked(self, question: Q, ask: Callable[[Q, "Index"], Awaitable[A]], seconds: float) -> A:
        """The answer, counted; or why there is none, counted too."""
        try:
            self._require_taking()
            with self.lent(question.index) as index:
                async with asyncio.timeout(seconds):
                    answer = await ask(question, index)
        except BaseException as error:
            found = DeadlinePassed() if isinstance(error, TimeoutError) else error
            known = refusal(found)
            gone = isinstance(error, asyncio.CancelledError)
            self.metrics.failed(known.code if known else "client_gone" if gone else "internal_error")
            if found is error:
                raise
            raise found from None
        self.metrics.answered(answer.timings_ms)
        self.on_answer(answer.timings_ms)
        return answer

    def require_room(self) -> None:
        """Raises QueueFull, and counts it, when a question would be refused; other reasons are told later."""
        if self.state != "ready":
            return
        try:
            self.queue.check_room()
        except QueueFull:
            self.metrics.failed("queue_full")
            raise

    def _require_taking(self) -> None:
        if self.state == "draining":
            raise NotReady("draining")
        self.require_loaded()

    def _warm_up(self, index: "Index") -> None:
        """The first pass through a model is slow; it also gives the queue a speed to promise Retry-After by."""
        for _ in range(2):
            pair = index.encode("", _WARM_UP)
            began = self.queue.clock()
            index.rows([pair])
            self.queue.done(len(pair.input_ids), self.queue.clock() - began)

    def _worker_died(self) -> None:
        self.state, self.failure = "failed", RuntimeError("the model's thread died twice")
        self.on_failure()


def _tell_ready(name: str, index: "Index", seconds: float) -> None:
    log.info("index %s: %d documents, ready after %.1f s", name, len(index.documents), seconds)
