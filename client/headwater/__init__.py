"""Which training documents made the model say that? The client of a Headwater server.

from headwater import Client

with Client() as headwater:
    answer = headwater.attribute(prompt="To be, or not to be,", response=" that is the question")
"""

from headwater.client import AsyncClient, Client
from headwater.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    GatewayTimeoutError,
    HeadwaterError,
    InsecureTransportWarning,
    InternalServerError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ServiceUnavailableError,
    UnprocessableEntityError,
)
from headwater.types import (
    AttributedDocument,
    Attribution,
    DocumentRecord,
    Health,
    IndexInfo,
    IndexList,
    Message,
    SourceShare,
)
from headwater.wire import __version__

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncClient",
    "AttributedDocument",
    "Attribution",
    "AuthenticationError",
    "BadRequestError",
    "Client",
    "ConflictError",
    "DocumentRecord",
    "GatewayTimeoutError",
    "HeadwaterError",
    "Health",
    "IndexInfo",
    "IndexList",
    "InsecureTransportWarning",
    "InternalServerError",
    "Message",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServiceUnavailableError",
    "SourceShare",
    "UnprocessableEntityError",
    "__version__",
]
