"""Long work on a model pauses between two passes: what called it may use the model then, or end the work by raising."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_between: ContextVar[Callable[[], None] | None] = ContextVar("between", default=None)


@contextmanager
def pausing(between: Callable[[], None]) -> Iterator[None]:
    """In this thread, and within the `with`, `between` is called where work pauses; what it raises ends the work."""
    before = _between.set(between)
    try:
        yield
    finally:
        _between.reset(before)


def pause() -> None:
    """Said by long work where no hook is on the model and nothing is half done."""
    between = _between.get()
    if between is not None:
        between()
