"""The bases of all that travels: questions refuse fields that they do not know, answers ignore them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator
from pydantic_core import PydanticCustomError

IndexName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="Name under which the server holds the index; never a path.",
        examples=["default"],
    ),
]


class Question(BaseModel):
    """Base of what a client sends. A misspelt field is an error, not a default that is silently used."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @field_validator("*")
    @classmethod
    def _unicode(cls, value: object) -> object:
        """JSON's escapes can write half of a surrogate pair, and pydantic sees it in some strings only."""
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and not text.isascii():
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError:
                    raise PydanticCustomError("string_unicode", "holds half of a surrogate pair") from None
        return value


class Answer(BaseModel):
    """Base of what a server sends. A newer server may say more than this client knows."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), hide_input_in_errors=True)

    _request_id: str | None = PrivateAttr(default=None)

    @property
    def request_id(self) -> str | None:
        """The answer's X-Request-ID header: quote it to whoever runs the server."""
        return self._request_id
