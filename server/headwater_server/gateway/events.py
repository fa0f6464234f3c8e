"""Server-sent events on their way through: passed on byte for byte as they come, up to the line that says [DONE]."""

import re
from collections.abc import Callable

_DONE = re.compile(rb"data: ?\[DONE\]\s*")
_BEGINS_DONE = (b"data: [DONE]\r", b"data:[DONE]\r")
_PIECES = re.compile(rb"[^\n]*\n|[^\n]+")
MAX_EVENT = 1024 * 1024  # bytes; from one that is longer on, all passes unread


class Events:
    """`feed` gives what may pass on now: all but [DONE] and what follows it, which stay in `held`."""

    def __init__(self, read: Callable[[bytes], object], unreadable: Callable[[], None]) -> None:
        self.done = False
        self.held = b""
        self._reader = _Reader(read, unreadable)
        self._line_begins = True  # nothing of the present line has passed
        self._tail = b"\n\n"  # of what has passed

    @property
    def gap(self) -> bytes:
        """What must stand before another event may follow what has passed."""
        return b"" if self._tail.endswith((b"\n\n", b"\n\r\n", b"\r\r")) else b"\n\n"

    def feed(self, received: bytes) -> bytes:
        """What passes on at once, in order; a line is kept back only while it may become [DONE]."""
        passing = []
        for found in _PIECES.finditer(received):
            piece, self.held = self.held + found[0], b""
            if self._line_begins and _DONE.fullmatch(piece) and piece.endswith(b"\n"):
                self.done, self.held = True, piece + received[found.end() :]
                break
            if self._line_begins and any(begins.startswith(piece) for begins in _BEGINS_DONE):
                self.held = piece
                break  # it is the last
            passing.append(piece)
            self._line_begins = piece.endswith(b"\n")
            self._reader.take(piece)
        return self._passed(b"".join(passing))

    def end(self) -> bytes:
        """What was kept back without need, when the upstream has ended."""
        if not self.done and _DONE.fullmatch(self.held):
            self.done, self.held = True, self.held + b"\n\n"
        rest = b"" if self.done else self.held
        self._reader.take(rest + b"\n\n")  # for an event that lacks its last line end
        return self._passed(rest)

    def _passed(self, data: bytes) -> bytes:
        self._tail = (self._tail + data)[-3:]
        return data


class _Reader:
    """Lines into events' data, without ever holding more than MAX_EVENT."""

    def __init__(self, read: Callable[[bytes], object], unreadable: Callable[[], None]) -> None:
        self._read = read
        self._unreadable = unreadable
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0  # bytes of the event
        self._deaf = False

    def take(self, piece: bytes) -> None:
        if self._deaf:
            return
        self._size += len(piece)
        if self._size > MAX_EVENT:
            self._deaf = True
            self._line.clear()
            self._data.clear()
            self._unreadable()
            return
        self._line += piece
        while (end := self._line.find(b"\n")) >= 0:
            line = bytes(self._line[:end]).rstrip(b"\r")
            del self._line[: end + 1]
            self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:])
        elif not line:
            if self._data:
                self._read(b"\n".join(self._data))
            self._data, self._size = [], 0
