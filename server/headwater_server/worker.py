"""The one thread that owns the model: takes batches from the queue, answers each entry, and is watched over."""

import gc
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from headwater_indexer.pausing import pausing
from headwater_server.entries import Entry, Row
from headwater_server.errors import DeadlinePassed, OutOfMemory, QueueClosed, WorkerDied
from headwater_server.queue import GradientQueue

log = logging.getLogger("headwater.worker")


class Worker:
    """Runs the queue in one thread at a time. A thread that dies is replaced once; then `alive` is false for good."""

    def __init__(
        self,
        queue: GradientQueue,
        *,
        on_death: Callable[[], None] = lambda: None,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`on_batch` is told the tokens of every batch that was computed."""
        self.queue = queue
        self._on_batch = on_batch
        self.restarts = 0
        self._on_death = on_death
        self._dead = False
        self._spent_between = 0.0  # seconds of the work in hand that went to others
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and not self._dead

    def start(self) -> None:
        self._thread = threading.Thread(target=self._supervised, name="headwater-model", daemon=True)
        self._thread.start()

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _supervised(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  a thread that ends unseen leaves futures hanging for ever
            self._bury(error)

    def _run(self) -> None:
        while batch := self.queue.take():
            self._work_on(batch)

    def _work_on(self, batch: Sequence[Entry]) -> None:
        try:
            self._answer(batch)
        finally:
            self.queue.finished(batch)
            for entry in batch:  # nothing to do unless the thread is dying
                if not entry.answer.done():
                    entry.answer.set_exception(WorkerDied())

    def _bury(self, error: BaseException) -> None:
        log.error("the model's thread died (%s)", type(error).__name__)
        if self.restarts == 0:
            self.restarts += 1
            self.start()
            return
        self._dead = True
        self.queue.close(WorkerDied())
        self._on_death()

    def _answer(self, batch: Sequence[Entry]) -> None:
        """Answer every entry: together if that works, in halves without memory, one by one if it fails otherwise."""
        began = self.queue.clock()
        try:
            found = self._compute(batch)
        except Exception as error:  # noqa: BLE001  whatever the model raises belongs to a question, not to the thread
            self._recover(batch, error)
            return
        ended = self.queue.clock()
        tokens = sum(entry.tokens for entry in batch)
        self.queue.done(tokens, ended - began - self._spent_between)
        self._on_batch(tokens)
        for entry, values in zip(batch, found, strict=True):
            entry.answer.set_result(Row(values=values, began=began, ended=ended))

    def _compute(self, batch: Sequence[Entry]) -> Sequence[Any]:
        """What each entry wants; one with work of its own is a batch of its own."""
        work, index = batch[0].work, batch[0].index
        self._spent_between = 0.0
        if work is not None:
            with pausing(lambda: self._between(batch[0])):
                return [work()]
        rows = index.rows([entry.pair for entry in batch])
        if len(rows) != len(batch):
            raise RuntimeError(f"the model gave {len(rows)} rows for {len(batch)} questions")
        return list(np.asarray(rows, dtype=np.float32))

    def _between(self, entry: Entry) -> None:
        """Where work pauses it is given up if nobody wants it any more; else one batch of questions goes first."""
        self.queue.require_wanted(entry)
        spent, began = self._spent_between, self.queue.clock()
        if batch := self.queue.take_between():
            self._work_on(batch)
        self._spent_between = spent + self.queue.clock() - began

    def _recover(self, batch: Sequence[Entry], error: Exception) -> None:
        exhausted = _out_of_memory(error)
        if exhausted:
            error.__traceback__ = None  # its frames hold the tensors that did not fit
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if isinstance(error, DeadlinePassed | QueueClosed):
            batch[0].answer.set_exception(error)
            return
        if len(batch) == 1:
            log.warning("a question failed in the model (%s)", type(error).__name__)
            batch[0].answer.set_exception(OutOfMemory() if exhausted else error)
            return
        size = (len(batch) + 1) // 2 if exhausted else 1
        for start in range(0, len(batch), size):
            self._answer(batch[start : start + size])


def _out_of_memory(error: Exception) -> bool:
    """The CPU allocator raises a plain RuntimeError, so its words are all there is to go by."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )
