"""The model's thread: one bad question spoils no other, and a dead thread leaves nobody waiting."""

from concurrent.futures import wait

import numpy as np
import pytest

from headwater_server.entries import Entry
from headwater_server.errors import OutOfMemory, WorkerDied
from headwater_server.queue import GradientQueue
from headwater_server.worker import Worker


def ask_all(index, texts, *, start=True):
    """Queue every text, then let the worker go, so that they are one batch."""
    queue = GradientQueue(max_tokens=10**6, max_requests=1000, max_batch_tokens=10**6)
    entries = [Entry(index=index, pair=index.encode("", text), deadline=1e12) for text in texts]
    for entry in entries:
        queue.put(entry)
    worker = Worker(queue)
    worker.start()
    _, missing = wait([entry.answer for entry in entries], timeout=10)
    assert not missing, "a future hangs"
    return worker, entries


def raises_for(word, error):
    """A model that cannot bear batches that hold `word`."""
    bad = sum(map(ord, word))

    def before(pairs):
        if any(bad in pair.input_ids for pair in pairs):
            raise error

    return before


def test_rows_come_back_to_who_asked(twin):
    index = twin()
    _, entries = ask_all(index, ["one two", "three", "four five six"])
    for entry in entries:
        np.testing.assert_array_equal(entry.answer.result().values, index.rows([entry.pair])[0])
    assert sorted(index.batches[0]) == [1, 2, 3]


def test_a_question_that_the_model_cannot_bear_fails_alone(twin):
    worker, entries = ask_all(twin(before=raises_for("bad", ValueError("no"))), ["good", "bad", "fine"])
    assert [type(entry.answer.exception()) for entry in entries] == [type(None), ValueError, type(None)]
    assert worker.alive


def test_out_of_memory_halves_the_batch(twin):
    def before(pairs):
        if len(pairs) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    index = twin(before=before)
    _, entries = ask_all(index, ["a", "b", "c", "d"])
    assert all(entry.answer.exception() is None for entry in entries)
    assert [len(batch) for batch in index.batches] == [2, 2]


def test_a_question_without_enough_memory_alone_is_told_so(twin):
    _, entries = ask_all(twin(before=raises_for("huge", MemoryError())), ["small", "huge"])
    assert entries[0].answer.exception() is None
    assert isinstance(entries[1].answer.exception(), OutOfMemory)


def test_a_dead_thread_is_replaced_once(twin):
    worker, entries = ask_all(twin(before=raises_for("deadly", SystemExit())), ["deadly"])
    assert isinstance(entries[0].answer.exception(), WorkerDied)
    after = Entry(index=twin(), pair=twin().encode("", "next"), deadline=1e12)
    worker.queue.put(after)
    assert after.answer.result(10).values.shape == (8,)
    assert (worker.restarts, worker.alive) == (1, True)


def test_a_thread_that_dies_twice_answers_all_that_wait(twin, wait_until):
    index = twin(before=raises_for("deadly", SystemExit()))
    worker, _ = ask_all(index, ["deadly"])
    last = [Entry(index=index, pair=index.encode("", "deadly"), deadline=1e12) for _ in range(3)]
    for entry in last:
        worker.queue.put(entry)
    for entry in last:
        with pytest.raises(WorkerDied):
            entry.answer.result(10)
    wait_until(lambda: not worker.alive)
