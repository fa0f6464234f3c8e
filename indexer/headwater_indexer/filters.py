"""Which documents are searched: conditions on what is known of them, as SQL of which every value is bound.

A path is ("source",), ("document_id",), or ("metadata", name, ...), which walks into objects. A condition holds for a
value, and for a list when it holds for one of its items. Numbers, texts and booleans are never equal to one another.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Scalar = str | int | float | bool
Operator = Literal["gt", "gte", "lt", "lte"]
Path = tuple[str, ...]

_COLUMNS: dict[Path, str] = {("source",): "documents.source", ("document_id",): "documents.id"}
_SIGNS: dict[Operator, str] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_NUMBER = "type IN ('integer', 'real')"
_METADATA = "(SELECT metadata FROM texts WHERE texts.ordinal = documents.ordinal)"


@dataclass(frozen=True)
class Sql:
    """A condition on a row of `documents`, true or false and never null, and the values that it binds."""

    text: str
    values: tuple[str | int | float, ...] = ()


class Where(Protocol):
    """What decides whether a document is searched."""

    def sql(self) -> Sql: ...


@dataclass(frozen=True)
class OneOf:
    """The value is one of these. Integers have at most 64 bits, floats are finite."""

    path: Path
    values: tuple[Scalar, ...]

    def sql(self) -> Sql:
        texts = [value for value in self.values if isinstance(value, str)]
        numbers = [value for value in self.values if not isinstance(value, str | bool)]
        tests = [f"type = '{json.dumps(value)}'" for value in (True, False) if any(value is one for one in self.values)]
        bound: list[str] = []
        for kind, values in (("type = 'text'", texts), (_NUMBER, numbers)):
            if values:
                tests.append(f"({kind} AND value IN (SELECT value FROM json_each(?)))")
                bound.append(json.dumps(values))
        return _exists(self.path, " OR ".join(tests) or "0", bound)


@dataclass(frozen=True)
class Between:
    """The value is a number within these bounds, or a text, by code points: dates as ISO 8601 writes them."""

    path: Path
    bounds: tuple[tuple[Operator, str | int | float], ...]  # all of one kind, at least one

    def sql(self) -> Sql:
        kind = "type = 'text'" if isinstance(self.bounds[0][1], str) else _NUMBER
        tests = [kind, *(f"value {_SIGNS[operator]} ?" for operator, _ in self.bounds)]
        return _exists(self.path, " AND ".join(tests), [bound for _, bound in self.bounds])


@dataclass(frozen=True)
class AllOf:
    parts: tuple[Where, ...]

    def sql(self) -> Sql:
        return _joined(" AND ", self.parts, "1")


@dataclass(frozen=True)
class AnyOf:
    parts: tuple[Where, ...]

    def sql(self) -> Sql:
        return _joined(" OR ", self.parts, "0")


@dataclass(frozen=True)
class Not:
    part: Where

    def sql(self) -> Sql:
        inner = self.part.sql()
        return Sql(f"NOT ({inner.text})", inner.values)


def _joined(word: str, parts: Iterable[Where], empty: str) -> Sql:
    made = [part.sql() for part in parts]
    text = word.join(f"({part.text})" for part in made) or empty
    return Sql(text, tuple(value for part in made for value in part.values))


def _exists(path: Path, test: str, bound: Sequence[str | int | float]) -> Sql:
    """True when a (type, value) at the path passes the test; columns are looked at before any metadata is read."""
    column = _COLUMNS.get(path)
    if column is not None:
        found = f"SELECT 'text' AS type, {column} AS value WHERE {column} IS NOT NULL"
        return Sql(f"EXISTS (SELECT 1 FROM ({found}) WHERE {test})", tuple(bound))
    names = path[1:]
    last = f"step{len(names) - 1}"
    steps = [f"json_each({_METADATA}) AS step0"]
    for number in range(1, len(names)):
        before = f"step{number - 1}"
        steps.append(f"json_each(CASE {before}.type WHEN 'object' THEN {before}.value ELSE '{{}}' END) AS step{number}")
    items = f"json_each(CASE {last}.type WHEN 'array' THEN {last}.value ELSE '[0]' END) AS item"
    kind, value = (
        f"CASE {last}.type WHEN 'array' THEN item.{part} ELSE {last}.{part} END" for part in ("type", "value")
    )
    keys = " AND ".join(f"step{number}.key = ?" for number in range(len(names)))
    found = f"SELECT {kind} AS type, {value} AS value FROM {', '.join(steps)}, {items} WHERE {keys}"
    return Sql(f"EXISTS (SELECT 1 FROM ({found}) WHERE {test})", (*names, *bound))
