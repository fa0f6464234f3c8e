"""Which documents are searched, in the manner of Qdrant's filters but small."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator

from headwater.types.base import Question

MAX_CONDITIONS = 64  # in each list
MAX_VALUES = 256  # of `in`
MAX_STEPS = 8  # into objects
_INTEGERS = range(-(2**63), 2**63)  # what SQLite has


def _plain(value: JsonValue) -> JsonValue:
    if value is None or isinstance(value, list | dict):
        raise ValueError("a filter compares with a text, a number, true or false")
    return _number(value)


def _ordered(value: JsonValue) -> JsonValue:
    if value is None or isinstance(value, list | dict | bool):
        raise ValueError("the bounds of a range are numbers or texts")
    return _number(value)


def _number(value: JsonValue) -> JsonValue:
    too_large = isinstance(value, int) and value not in _INTEGERS
    if too_large or (isinstance(value, float) and not abs(value) < float("inf")):
        raise ValueError("a number in a filter is finite, and an integer has at most 64 bits")
    return value


def _path(key: str) -> str:
    first, *names = key.split(".")
    if key in ("source", "document_id"):
        return key
    if first != "metadata" or not names or not all(names) or len(names) > MAX_STEPS:
        raise ValueError(f"a key is `source`, `document_id`, or `metadata.` and a name; at most {MAX_STEPS} of them")
    return key


_KINDS: list[dict[str, Any]] = [{"type": "string"}, {"type": "number"}]
Plain = Annotated[JsonValue, AfterValidator(_plain), WithJsonSchema({"anyOf": [*_KINDS, {"type": "boolean"}]})]
Ordered = Annotated[JsonValue, AfterValidator(_ordered), WithJsonSchema({"anyOf": _KINDS})]


class Range(Question):
    """A number between bounds, or a text between texts: ISO 8601 writes dates in the order of time."""

    gt: Ordered | None = Field(default=None, description="Greater than this.", examples=[1899])
    gte: Ordered | None = Field(default=None, description="Greater than this, or equal to it.", examples=[1900])
    lt: Ordered | None = Field(default=None, description="Less than this.", examples=["2000-01-01"])
    lte: Ordered | None = Field(default=None, description="Less than this, or equal to it.", examples=[1999])

    @property
    def bounds(self) -> dict[str, str | int | float]:
        """The bounds that were given, by name."""
        named = {"gt": self.gt, "gte": self.gte, "lt": self.lt, "lte": self.lte}
        return {name: bound for name, bound in named.items() if isinstance(bound, str | int | float)}

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if len({isinstance(bound, str) for bound in self.bounds.values()}) != 1:
            raise ValueError("a range has one bound or more, all of them numbers or all of them texts")
        return self


class Condition(Question):
    """What must hold for one key: give exactly one of `equals`, `in` and `range`.

    It holds for a list when it holds for one of its items, and never for a document that has no such key.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    key: Annotated[str, AfterValidator(_path)] = Field(
        max_length=512,
        description="`source`, `document_id`, or `metadata.` and a name; further dots step into objects.",
        examples=["metadata.year"],
    )
    equals: Plain | None = Field(default=None, description="It is this text, number or boolean.", examples=["en"])
    one_of: list[Plain] | None = Field(
        default=None, alias="in", max_length=MAX_VALUES, description="It is one of these.", examples=[["en", "de"]]
    )
    range: Range | None = Field(default=None, description="It is a number or text between bounds.")

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if sum(test is not None for test in (self.equals, self.one_of, self.range)) != 1:
            raise ValueError("a condition has a `key` and exactly one of `equals`, `in` and `range`")
        return self


class Filters(Question):
    """Documents are searched for which all of `must`, none of `must_not` and, if it is given, one of `should` hold."""

    must: list[Condition] = Field(default=[], max_length=MAX_CONDITIONS, description="All of these hold.")
    must_not: list[Condition] = Field(default=[], max_length=MAX_CONDITIONS, description="None of these holds.")
    should: list[Condition] = Field(default=[], max_length=MAX_CONDITIONS, description="At least one of these holds.")
