"""The queue: bounded, truthful about waiting, and cut into batches of like lengths."""

import random
from types import SimpleNamespace

import pytest

from headwater_server.entries import Entries, Entry
from headwater_server.errors import DeadlinePassed, QueueClosed, QueueFull
from headwater_server.queue import GradientQueue

INDEX = SimpleNamespace()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def work(cost):
    return Entry(index=INDEX, pair=SimpleNamespace(input_ids=(0,)), deadline=1e9, work=lambda: None, cost=cost)


def entry(tokens, *, index=INDEX, deadline=1e9):
    return Entry(index=index, pair=SimpleNamespace(input_ids=(0,) * tokens), deadline=deadline)


def queue(*, max_tokens=1000, max_requests=100, max_batch_tokens=100, clock=None):
    return GradientQueue(
        max_tokens=max_tokens, max_requests=max_requests, max_batch_tokens=max_batch_tokens, clock=clock or Clock()
    )


def lengths(batch):
    return [taken.tokens for taken in batch]


def test_a_batch_holds_the_oldest_and_those_nearest_in_length():
    waiting = queue(max_batch_tokens=100)
    for tokens in (20, 90, 22, 18, 3, 40):
        waiting.put(entry(tokens))
    assert lengths(waiting.take()) == [3, 18, 20, 22]  # 5 x 40 would be above 100
    assert lengths(waiting.take()) == [90]
    assert lengths(waiting.take()) == [40]


def test_no_padded_batch_is_above_the_budget_and_none_is_lost():
    waiting = queue(max_tokens=10**6, max_requests=1000, max_batch_tokens=64)
    given = [(7 * n) % 61 + 1 for n in range(300)]
    for tokens in given:
        waiting.put(entry(tokens))
    taken = []
    while waiting.waiting[0]:
        batch = lengths(waiting.take())
        assert len(batch) * max(batch) <= 64
        taken += batch
    assert sorted(taken) == sorted(given)


def test_a_batch_is_of_one_index():
    waiting, other = queue(), SimpleNamespace()
    for index in (INDEX, other, INDEX):
        waiting.put(entry(5, index=index))
    assert [taken.index for taken in waiting.take()] == [INDEX, INDEX]
    assert [taken.index for taken in waiting.take()] == [other]


def test_full_in_tokens():
    waiting = queue(max_tokens=50)
    waiting.put(entry(30))
    waiting.put(entry(20))
    with pytest.raises(QueueFull, match="try again in 1 s"):
        waiting.put(entry(1))


def test_full_in_requests():
    waiting = queue(max_requests=2)
    waiting.put(entry(1))
    waiting.put(entry(1))
    with pytest.raises(QueueFull):
        waiting.check_room()


def test_a_question_longer_than_the_queue_is_taken_when_nothing_waits():
    waiting = queue(max_tokens=10, max_batch_tokens=10)
    waiting.put(entry(50))
    assert lengths(waiting.take()) == [50]


def test_retry_after_is_tokens_ahead_by_measured_speed():
    waiting = queue(max_tokens=500)
    waiting.done(tokens=100, seconds=1.0)
    waiting.put(entry(500))
    with pytest.raises(QueueFull) as refused:
        waiting.put(entry(1))
    assert refused.value.retry_after == 5


def test_what_would_wait_past_its_deadline_is_refused_at_once():
    clock = Clock()
    waiting = queue(clock=clock)
    waiting.done(tokens=100, seconds=1.0)
    gone = entry(100)
    waiting.put(entry(100))
    waiting.put(gone)
    with pytest.raises(QueueFull) as refused:
        waiting.put(entry(1, deadline=clock.now + 1.9))
    assert refused.value.retry_after == 2
    waiting.put(entry(1, deadline=clock.now + 2.1))
    assert gone.answer.cancel()
    clock.now += 0.01  # who has gone is looked for only so often
    waiting.put(entry(1, deadline=clock.now + 1.9))
    assert waiting.waiting[0] == 3


def test_work_is_not_before_questions_and_questions_are_before_work():
    clock = Clock()
    waiting = queue(clock=clock)
    waiting.done(tokens=100, seconds=1.0)
    waiting.put(work(900))
    waiting.put(entry(1, deadline=clock.now + 0.1))
    with pytest.raises(QueueFull):
        waiting.put(Entry(index=INDEX, pair=SimpleNamespace(input_ids=(0,)), deadline=clock.now + 8, work=lambda: None))


def test_what_is_late_or_gone_holds_no_room():
    clock = Clock()
    waiting = queue(max_requests=2, clock=clock)
    late, gone, last = entry(1, deadline=101.0), entry(1), entry(1)
    waiting.put(late)
    waiting.put(gone)
    clock.now = 102.0
    assert gone.answer.cancel()
    waiting.put(last)
    assert waiting.take() == [last]
    with pytest.raises(DeadlinePassed):
        late.answer.result(0)


def test_closing_answers_what_waits_and_refuses_what_comes():
    waiting = queue()
    left = entry(1)
    waiting.put(left)
    waiting.close(QueueClosed("gone"))
    with pytest.raises(QueueClosed, match="gone"):
        left.answer.result(0)
    with pytest.raises(QueueClosed):
        waiting.put(entry(1))
    assert waiting.take() == []


def test_long_work_takes_a_part_of_the_room_and_all_of_its_time():
    waiting = queue(max_tokens=100)
    waiting.done(tokens=100, seconds=1.0)
    waiting.put(entry(10))
    for _ in range(3):
        waiting.put(work(cost=100_000))
    with pytest.raises(QueueFull) as refused:
        waiting.put(work(cost=100_000))
    assert refused.value.retry_after == 3001


def test_questions_go_between_work_and_work_waits_its_turn():
    waiting = queue()
    long, other, asked = work(50), work(50), entry(5)
    for one in (long, other, asked):
        waiting.put(one)
    assert waiting.take() == [long]
    assert waiting.take_between() == [asked]
    waiting.finished([asked])
    assert waiting.take_between() == []
    waiting.finished([long])
    assert waiting.take() == [other]


def test_sums_are_those_of_what_is_there():
    """The sums kept beside each group, against sums made anew, over a thousand random changes."""
    chance = random.Random(0)
    held = Entries(largest_room=25)
    there = []
    for _ in range(1000):
        if there and chance.random() < 0.45:
            held.discard(there.pop(chance.randrange(len(there))))
            held.discard(entry(7))  # never there
        else:
            one = entry(chance.randint(1, 50)) if chance.random() < 0.7 else work(chance.randint(1, 50))
            (held.add_first if (first := chance.random() < 0.1) else held.add)(one)
            there.insert(0 if first else len(there), one)
        questions = [one for one in there if one.work is None]
        assert list(held) == there
        assert (len(held), held.questions) == (len(there), len(questions))
        assert held.tokens == sum(one.tokens for one in there)
        assert held.question_tokens == sum(one.tokens for one in questions)
        assert held.room == sum(one.tokens if one.work is None else min(one.tokens, 25) for one in there)
