"""What a caller sends: the request as the upstream gets it, byte for byte but for `attribution`, which is ours."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError, create_model

from headwater.types import AttributeRequest
from headwater.types.base import Question
from headwater_server.problems import from_validation
from headwater_server.wirejson import parse_json

FIELD = "attribution"
_OF_THE_PAIR = {"prompt", "messages", "response", "span"}  # the chat itself tells these
_SPACE = re.compile(r"[ \t\n\r]*")
_VALUES = json.JSONDecoder()

# Whatever else can be asked of an attribution can be asked of a chat's.
AttributionOptions: type[Question] = create_model(
    "AttributionOptions",
    __base__=Question,
    __doc__="What the attribution of a chat's answer is to be; {} for the defaults.",
    **{  # type: ignore[call-overload]
        name: (field.annotation, field)
        for name, field in AttributeRequest.model_fields.items()
        if name not in _OF_THE_PAIR
    },
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request: what goes to the upstream, what it says, and the options of its attribution if one is asked for."""

    body: bytes
    fields: Mapping[str, Any]
    options: Mapping[str, Any] | None

    @classmethod
    def read(cls, body: bytes) -> "Asked":
        """Raises ProblemError for what asks for an attribution wrongly; the rest is the upstream's to judge."""
        if FIELD.encode() not in body:
            return cls(body=body, fields={}, options=None)
        fields = parse_json(body)
        if not isinstance(fields, dict) or FIELD not in fields:
            return cls(body=body, fields={}, options=None)
        options = fields.pop(FIELD)
        rest = without_member(body.decode(), FIELD).encode()
        return cls(body=rest, fields=fields, options=None if options is None else _checked(options))


def without_member(text: str, name: str) -> str:
    """A JSON object without its members of that name; the others stay as they were written."""
    kept, at = [], _skip(text, text.index("{") + 1)
    while text[at] != "}":
        start = at
        key, at = _VALUES.raw_decode(text, at)
        _, at = _VALUES.raw_decode(text, _skip(text, _skip(text, at) + 1))  # past the colon
        if key != name:
            kept.append(text[start:at])
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return "{" + ", ".join(kept) + "}"


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _checked(options: object) -> Mapping[str, Any]:
    try:
        AttributionOptions.model_validate(options)
    except ValidationError as error:
        found = [{**finding, "loc": ("body", FIELD, *finding["loc"])} for finding in error.errors()]
        raise from_validation(found) from None
    return dict(options) if isinstance(options, Mapping) else {}
