"""What can go wrong, drawn as a tree; the names are the OpenAI SDK's wherever it has one.

    HeadwaterError
    └── APIError                                a question that got no usable answer
        ├── APIConnectionError                  no answer: refused, broken off, not resolved
        │   └── APITimeoutError                 no answer in time
        ├── APIResponseError                    an answer that is not one of this service's
        └── APIStatusError                      an answer that is an error, by its HTTP status
            ├── BadRequestError            400
            ├── AuthenticationError        401
            ├── PermissionDeniedError      403
            ├── NotFoundError              404
            ├── ConflictError              409
            ├── PayloadTooLargeError       413
            ├── UnprocessableEntityError   422
            ├── RateLimitError             429  the queue is full; `retry_after` says for how long
            └── InternalServerError        5xx
                ├── ServiceUnavailableError 503 loading or draining
                └── GatewayTimeoutError    504  past the server's own deadline
    InsecureTransportWarning (UserWarning)      a key would travel in the clear

A question that is wrong before it is sent (top_k=0, both prompt and messages) is a ValueError, as anywhere in Python.
"""


class HeadwaterError(Exception):
    """Base of all errors of this package."""


class APIError(HeadwaterError):
    """A question that got no usable answer. `message` says what is wrong and what to do."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id


class APIConnectionError(APIError):
    """The server could not be reached, or broke off before it had answered."""


class APITimeoutError(APIConnectionError):
    """The server did not answer in time."""


class APIResponseError(APIError):
    """The answer is not one of this service's: another server, or a proxy's page."""


class APIStatusError(APIError):
    """The server answered with an error. `code` is its reason for programs, `param` the field at fault."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        request_id: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,  # seconds
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status_code = status_code
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} (HTTP {self.status_code}{request})"


class BadRequestError(APIStatusError):
    """400: the request could not be read."""


class AuthenticationError(APIStatusError):
    """401: no key, or one that the server does not know."""


class PermissionDeniedError(APIStatusError):
    """403: the key does not allow this."""


class NotFoundError(APIStatusError):
    """404: no such index, document or address."""


class ConflictError(APIStatusError):
    """409: the server is changing what was asked for."""


class PayloadTooLargeError(APIStatusError):
    """413: the request is larger than the server accepts."""


class UnprocessableEntityError(APIStatusError):
    """422: a field is wrong, or the text is longer than the model takes; `param` names it."""


class RateLimitError(APIStatusError):
    """429: the server's queue is full; `retry_after` is its estimate of the wait, in seconds."""


class InternalServerError(APIStatusError):
    """500 and above: the server failed."""


class ServiceUnavailableError(InternalServerError):
    """503: the server is loading or shutting down."""


class GatewayTimeoutError(InternalServerError):
    """504: the server gave up at its own deadline."""


class InsecureTransportWarning(UserWarning):
    """A key would travel over plain http to another host, where anyone on the way can read it."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: PayloadTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    503: ServiceUnavailableError,
    504: GatewayTimeoutError,
}


def error_class(status_code: int) -> type[APIStatusError]:
    """The class for an HTTP status; InternalServerError for any other above 500, else APIStatusError itself."""
    return _BY_STATUS.get(status_code, InternalServerError if status_code >= 500 else APIStatusError)
