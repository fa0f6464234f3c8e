"""Progress on stderr: a bar with rate and time left for every long step, a plain line for the rest."""

import sys
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Progress(Protocol):
    """What a long step tells; the recipe does not know who listens."""

    def say(self, line: str) -> None: ...

    def step(self, name: str, total: int | None, unit: str) -> "Step": ...


class Step(Protocol):
    """One long step, as a context manager that counts."""

    def __enter__(self) -> "Step": ...

    def __exit__(self, *_: object) -> None: ...

    def advance(self, count: int) -> None: ...


class TerminalProgress:
    """Bars and lines on stderr; a log file gets a line every ten seconds at most."""

    def say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)

    def step(self, name: str, total: int | None, unit: str) -> Step:
        return _Bar(name, total, unit)


class _Bar:
    def __init__(self, name: str, total: int | None, unit: str) -> None:
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=f"{name:<22}",
            total=total,
            unit=f" {unit}",
            unit_scale=True,
            dynamic_ncols=on_terminal,
            mininterval=0.2 if on_terminal else 10,
            file=sys.stderr,
        )

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, count: int) -> None:
        self._bar.update(count)


class Silent:
    """For programs that call the build themselves."""

    def say(self, line: str) -> None: ...

    def step(self, name: str, total: int | None, unit: str) -> Step:  # noqa: ARG002 - the Progress interface
        return _NoBar()


class _NoBar:
    def __enter__(self) -> "_NoBar":
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, count: int) -> None: ...


def counted(items: Iterable[T], step: Step) -> Iterator[T]:
    """The items, each counted on the step as it is handed on."""
    for item in items:
        yield item
        step.advance(1)
