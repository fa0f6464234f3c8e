"""How long a client waits before it asks again."""

import random
from email.utils import formatdate

import pytest

from headwater.retry import MAX_RETRY_AFTER, backoff, pause_before_retry, read_retry_after


@pytest.mark.parametrize("attempt", [0, 1, 2, 3, 4, 10, 5000])
def test_backoff_spreads_between_half_a_second_and_eight(attempt):
    generator = random.Random(3)
    ceiling = min(8.0, 0.5 * 2 ** min(attempt + 1, 10))
    pauses = [backoff(attempt, generator) for _ in range(2000)]
    assert min(pauses) >= 0.5
    assert max(pauses) <= ceiling
    assert min(pauses) < 0.5 + 0.1 * (ceiling - 0.5)
    assert max(pauses) > ceiling - 0.1 * (ceiling - 0.5)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 2.5 ", 2.5), ("-1", None), ("nan", None), ("soon", None), ("", None), (None, None)],
)
def test_retry_after_in_seconds(header, seconds):
    assert read_retry_after(header) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(30, 30.0), (0, 0.0), (-50, 0.0)])
def test_retry_after_as_an_http_date(ahead, seconds):
    now = 1_764_000_000
    assert read_retry_after(formatdate(now + ahead, usegmt=True), now=now) == seconds


def test_the_servers_word_replaces_the_backoff_up_to_two_minutes():
    generator = random.Random(0)
    assert pause_before_retry(0, 30.0, generator) == 30.0
    assert pause_before_retry(0, MAX_RETRY_AFTER, generator) == 120.0
    assert pause_before_retry(0, MAX_RETRY_AFTER + 1, generator) is None
    assert 0.5 <= pause_before_retry(0, None, generator) <= 1.0
