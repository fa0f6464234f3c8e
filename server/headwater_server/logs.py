"""Logs on stderr, as text for people or JSON for machines; only what is named here can get into a line."""

import json
import logging
import sys
import traceback
from typing import Literal

from headwater_indexer.progress import Silent

_FIELDS = ("request_id", "method", "route", "status", "ms")  # of the access line; no text of a question or document


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: getattr(record, name) for name in _FIELDS if hasattr(record, name)})
        return json.dumps(line)

    def formatException(self, ei: object) -> str:  # noqa: N802, ARG002  logging's name; a message may hold a question
        return ""


class TextLines(logging.Formatter):
    """Time, level, message. Exceptions are told by `where_it_failed`, without their messages."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatException(self, ei: object) -> str:  # noqa: N802, ARG002  logging's name; a message may hold a question
        return ""


class Told(Silent):
    """What is said while an index opens, in the log."""

    def __init__(self, name: str) -> None:
        self._name = name

    def say(self, line: str) -> None:
        logging.getLogger("headwater.index").info("%s: %s", self._name, line)


def configure(form: Literal["text", "json"], level: str) -> None:
    """Send every logger to stderr in one form. stdout stays free for data."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for every request to the upstream
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells which builds of itself it has not


def where_it_failed(error: BaseException) -> str:
    """Class and places of an error, without its message: a message may hold what a user wrote."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"
