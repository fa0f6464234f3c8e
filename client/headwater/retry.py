"""When to ask again, and after how long. Asking twice is safe: no question changes anything on the server."""

import random
import time
from email.utils import parsedate_to_datetime

MAX_RETRIES = 2
MIN_PAUSE = 0.5  # seconds
MAX_PAUSE = 8.0  # seconds
MAX_RETRY_AFTER = 120.0  # seconds; a server that asks for more is not asked again


def is_temporary(status_code: int) -> bool:
    """Whether the same question may fare better later."""
    return status_code in (408, 409, 429) or status_code >= 500


def backoff(attempt: int, generator: random.Random) -> float:
    """Seconds to wait after the failure of `attempt` (0 is the first): drawn evenly, so that clients spread out."""
    return generator.uniform(MIN_PAUSE, min(MAX_PAUSE, MIN_PAUSE * 2.0 ** (min(attempt, 10) + 1)))


def read_retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or an HTTP date; None if it holds neither.

    `now` is Unix time in seconds, by default the clock's.
    """
    text = (value or "").strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))


def pause_before_retry(attempt: int, retry_after: float | None, generator: random.Random) -> float | None:
    """Seconds to wait before asking again: the server's own word if it gave one. None if it asks for too long."""
    if retry_after is None:
        return backoff(attempt, generator)
    return retry_after if retry_after <= MAX_RETRY_AFTER else None
