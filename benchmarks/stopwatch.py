"""Listens to a build, and notes what each of its steps took."""

import time
from dataclasses import dataclass

from headwater_indexer.progress import Step


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock, and of all threads together on the processor, which a busy machine hardly changes."""

    clock: float
    processor: float

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.clock + other.clock, self.processor + other.processor)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.clock - other.clock, self.processor - other.processor)

    def __mul__(self, factor: float) -> "Spent":
        return Spent(self.clock * factor, self.processor * factor)

    @classmethod
    def so_far(cls) -> "Spent":
        """Only differences mean something."""
        return cls(time.perf_counter(), time.process_time())


class Stopwatch:
    """A Progress: what was spent, by the name of the step."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}

    def say(self, line: str) -> None: ...

    def step(self, name: str, total: int | None, unit: str) -> Step:  # noqa: ARG002 - the Progress interface
        return _Timed(name, self.spent)


class _Timed:
    def __init__(self, name: str, spent: dict[str, Spent]) -> None:
        self._name = name
        self._spent = spent

    def __enter__(self) -> "_Timed":
        self._begin = Spent.so_far()
        return self

    def __exit__(self, *_: object) -> None:
        before = self._spent.get(self._name, Spent(0, 0))
        self._spent[self._name] = before + (Spent.so_far() - self._begin)

    def advance(self, count: int) -> None: ...
