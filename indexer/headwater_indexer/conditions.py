"""Filters as a person writes them on a command line: a field, a sign and a value."""

import json
import re
from collections.abc import Sequence

from headwater_indexer.errors import UsageError
from headwater_indexer.filters import AllOf, Between, Not, OneOf, Operator, Scalar, Where

_CONDITION = re.compile(r"(source|document_id|metadata\.[^=<>!]+?)\s*(!=|>=|<=|=|<|>)\s*(.*)", re.DOTALL)
_OPERATORS: dict[str, Operator] = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_FORM = "write FIELD=VALUE, or with != < <= > >=; FIELD is source, document_id, or metadata. and a name"


def parse_conditions(texts: Sequence[str]) -> Where | None:
    """Holds where all of them do; None for none. Raises UsageError."""
    return AllOf(tuple(map(_parse, texts))) if texts else None


def _parse(text: str) -> Where:
    written = _CONDITION.fullmatch(text.strip())
    if written is None:
        raise UsageError(f"--where {text!r}: {_FORM}")
    path, sign, value = tuple(written[1].split(".")), written[2], _value(written[3])
    if sign in ("=", "!="):
        return OneOf(path, (value,)) if sign == "=" else Not(OneOf(path, (value,)))
    if isinstance(value, bool):
        raise UsageError(f"--where {text!r}: true and false are not ordered; {_FORM}")
    return Between(path, ((_OPERATORS[sign], value),))


def _value(text: str) -> Scalar:
    """A JSON number, true, false or string in quotes as what it is; anything else as a text."""
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | bool) else text
