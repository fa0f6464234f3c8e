"""What a field may hold: JSON values in whole Unicode characters. Tables and datasets know more types:

NaN, infinity                 null            date, time, datetime    ISO 8601
Decimal, timedelta, UUID      as Python prints them
bytes                         base64          anything else (an image, a sound) is a CorpusError
"""

import base64
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

from headwater_indexer.errors import CorpusError

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
_DEEPEST = 64  # levels of lists and objects; json and SQLite's readers follow them by recursion


def string(value: object, what: str) -> str:
    """`value` if it is a string that UTF-8 can hold. `what` begins the message: "corpus.jsonl:12: the field 'text'"."""
    if not isinstance(value, str):
        raise CorpusError(f"{what} is {_kind(value)}, not a string.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{what} holds half of a surrogate pair ({value[error.start]!a}) at character {error.start}, "
            "which is not Unicode text. Repair or remove it."
        ) from error
    return value


def json_value(value: object, what: str, depth: int = 0) -> JSON:
    """The value as JSON, by the table above."""
    if depth > _DEEPEST:
        raise CorpusError(f"{what} is nested deeper than {_DEEPEST} levels. Flatten it, or leave it out.")
    match value:
        case str():
            return string(value, what)
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case date() | time():
            return value.isoformat()
        case Decimal() | timedelta() | UUID():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case list() | tuple():
            return [json_value(item, what, depth + 1) for item in value]
        case Mapping():
            return {string(key, what): json_value(item, what, depth + 1) for key, item in value.items()}
    raise CorpusError(f"{what} is {_kind(value)}, which cannot be kept as JSON. Leave this column out.")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"of the type {type(value).__name__}")


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    bytes: "bytes",
    str: "a string",
    list: "a list",
    dict: "an object",
}
