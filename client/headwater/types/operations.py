"""How a server says that it is well, and what went wrong."""

from pydantic import Field

from headwater.types.base import Answer


class Health(Answer):
    """Whether the server can answer; a server that cannot answers with a Problem and status 503."""

    status: str = Field(description="`ok` when questions are answered.", examples=["ok"])
    version: str | None = Field(default=None, description="Version of the server.", examples=["0.1.0"])


class ErrorBody(Answer):
    """An error as the OpenAI SDK reads it."""

    message: str = Field(description="What is wrong, where, and what to do.", examples=["No index named 'x'."])
    type: str = Field(description="Family of the error.", examples=["invalid_request_error"])
    code: str | None = Field(default=None, description="Reason, for programs.", examples=["index_not_found"])
    param: str | None = Field(default=None, description="Field of the request at fault.", examples=["index"])


class Problem(Answer):
    """An error as RFC 9457 writes it (application/problem+json), with `error` for the OpenAI SDK."""

    type: str = Field(default="about:blank", description="URI that names the kind of problem.")
    title: str = Field(description="The kind of problem, in words.", examples=["Not Found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str | None = Field(default=None, description="What is wrong this time.", examples=["No index named 'x'."])
    instance: str | None = Field(default=None, description="The request's path or id.", examples=["/v1/indexes/x"])
    error: ErrorBody
