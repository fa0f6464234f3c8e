"""The open indexes by name: lent to questions, replaced while they are lent, closed when the last has come back."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater_indexer.index import Index


class _Held:
    def __init__(self, index: "Index") -> None:
        self.index = index
        self.lent = 0
        self.retired = False


class Library:
    """Safe to use from any thread. Raises KeyError for a name that it does not hold."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, name: str) -> "Index":
        return self._held[name].index

    def items(self) -> list[tuple[str, "Index"]]:
        """By name."""
        return sorted(((name, held.index) for name, held in self._held.copy().items()), key=lambda item: item[0])

    @contextmanager
    def lend(self, name: str) -> Iterator["Index"]:
        """The index that has this name now. It stays open until it is given back, whatever takes its name meanwhile."""
        with self._lock:
            held = self._held[name]
            held.lent += 1
        try:
            yield held.index
        finally:
            with self._lock:
                held.lent -= 1
                close = held.retired and not held.lent
            if close:
                held.index.close()

    def put(self, name: str, index: "Index") -> None:
        """Give the index this name. The one that had it is closed, at once or when it comes back."""
        with self._lock:
            before = self._held.get(name)
            self._held[name] = _Held(index)
            close = before is not None and not before.lent
            if before is not None:
                before.retired = True
        if before is not None and close:
            before.index.close()

    def close(self) -> None:
        """Close all, lent or not."""
        for _, index in self.items():
            index.close()
