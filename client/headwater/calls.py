"""What can be asked, once for both clients: each function turns its arguments into the call that asks the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

from headwater.types import (
    Answer,
    AttributeRequest,
    Attribution,
    DocumentRecord,
    Health,
    IndexInfo,
    IndexList,
    Message,
    Part,
    Score,
    Sign,
)

A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, kw_only=True)
class Call(Generic[A]):
    """One HTTP request, and the type of its answer."""

    method: str
    path: str  # below the base URL, percent-encoded
    answer: type[A]
    content: bytes | None = None  # JSON
    timeout: float | None = None  # seconds; None for the client's own
    retried: bool = True


def attribute(
    *,
    response: str,
    prompt: str | None = None,
    messages: Sequence[Message | Mapping[str, str]] | None = None,
    top_k: int = 10,
    index: str = "default",
    score: Score = "relatif",
    sign: Sign = "positive",
    include: Sequence[Part] = ("text", "metadata"),
    timeout: float | None = None,
) -> Call[Attribution]:
    """The training documents that made the model give `response` to `prompt`, most influential first.

    | option   | meaning                                                                          | default    |
    |----------|----------------------------------------------------------------------------------|------------|
    | response | what the model wrote                                                             |            |
    | prompt   | the text before it; or give `messages`                                           |            |
    | messages | the conversation before it, as {"role": ..., "content": ...}                     |            |
    | top_k    | how many documents, 1 to 1000                                                    | 10         |
    | index    | which of the server's indexes to search                                          | "default"  |
    | score    | "relatif", "influence" or "cosine"                                               | "relatif"  |
    | sign     | "positive": made the response likelier; "negative": less likely                  | "positive" |
    | include  | what to return of each document: "text", "metadata"                              | both       |
    | timeout  | seconds to wait for the answer, where the client's own do not fit                |            |

    Raises ValueError (pydantic's) for a question that cannot be asked, APIError when there is no answer to it.
    Scores are estimates, and no proof.
    """
    request = AttributeRequest.model_validate(
        {
            "prompt": prompt,
            "messages": None if messages is None else [_plain(message) for message in messages],
            "response": response,
            "top_k": top_k,
            "index": index,
            "score": score,
            "sign": sign,
            "include": list(include),
        }
    )
    content = request.model_dump_json(exclude_none=True).encode()
    return Call(method="POST", path="/v1/attribute", answer=Attribution, content=content, timeout=timeout)


def attribution(id: str, *, timeout: float | None = None) -> Call[Attribution]:
    """The attribution of a chat through the gateway, by the id in its X-Attribution-ID header; kept for an hour.

    Waits for one that is still made. Raises APIStatusError with the reason of one that failed.
    """
    return Call(method="GET", path=f"/v1/attributions/{_segment(id)}", answer=Attribution, timeout=timeout)


def document(id: str, *, index: str = "default", timeout: float | None = None) -> Call[DocumentRecord]:
    """The training document with this id, as it stands in the index."""
    path = f"/v1/documents/{_segment(id)}?index={quote(index, safe='')}"
    return Call(method="GET", path=path, answer=DocumentRecord, timeout=timeout)


def indexes(*, timeout: float | None = None) -> Call[IndexList]:
    """The indexes that the server holds."""
    return Call(method="GET", path="/v1/indexes", answer=IndexList, timeout=timeout)


def index(name: str = "default", *, timeout: float | None = None) -> Call[IndexInfo]:
    """What one index holds and how it was built."""
    return Call(method="GET", path=f"/v1/indexes/{_segment(name)}", answer=IndexInfo, timeout=timeout)


def health(*, timeout: float | None = None) -> Call[Health]:
    """Whether the server answers questions now; never retried. Raises ServiceUnavailableError while it does not."""
    return Call(method="GET", path="/health", answer=Health, timeout=timeout, retried=False)


def _plain(message: Message | Mapping[str, str]) -> dict[str, str]:
    return message.model_dump() if isinstance(message, Message) else dict(message)


def _segment(name: str) -> str:
    """A name as one segment of a path, whatever it holds; "." and ".." would otherwise be resolved away."""
    if not name:
        raise ValueError("an empty name or id cannot be looked up")
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
