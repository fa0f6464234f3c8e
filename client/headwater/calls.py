"""What can be asked, once for both clients: each function turns its arguments into the call that asks the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from headwater.types import (
    Answer,
    AttributeRequest,
    Attribution,
    BatchAttribution,
    BatchRequest,
    DocumentRecord,
    ExplainRequest,
    Explanation,
    Filters,
    Finder,
    Health,
    IndexInfo,
    IndexList,
    Message,
    Part,
    Question,
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
    span: tuple[int, int] | None = None,
    top_k: int = 10,
    index: str = "default",
    score: Score = "relatif",
    sign: Sign = "positive",
    filters: Filters | Mapping[str, Any] | None = None,
    include: Sequence[Part] = ("text", "metadata"),
    rescore: int | None = None,
    refine: int | None = None,
    method: Finder | None = None,
    histogram: bool | None = None,
    timeout: float | None = None,
) -> Call[Attribution]:
    """The training documents that made the model give `response` to `prompt`, most influential first.

    | option    | meaning                                                                         | default     |
    |-----------|---------------------------------------------------------------------------------|-------------|
    | response  | what the model wrote                                                            |             |
    | prompt    | the text before it; or give `messages`                                          |             |
    | messages  | the conversation before it, as {"role": ..., "content": ...}                    |             |
    | span      | ask about response[start:stop] alone; the rest of it is context                 | all of it   |
    | top_k     | how many documents, 1 to 1000                                                   | 10          |
    | index     | which of the server's indexes to search                                         | "default"   |
    | score     | "relatif", "influence" or "cosine"                                              | "relatif"   |
    | sign      | "positive": made the response likelier; "negative": less likely                 | "positive"  |
    | filters   | which documents to search: {"must": [{"key": "metadata.year", "equals": 1603}]} | all         |
    | include   | what to return of each document: "text", "metadata"                             | both        |
    | rescore   | score so many of the best again without projections: better, and slower         | none        |
    | refine    | steps past EK-FAC in doing so                                                   | 0           |
    | method    | "influence", or a baseline: "bm25", "hidden-states"                             | "influence" |
    | histogram | tell also how the scores of all documents searched are spread                   | no          |
    | timeout   | seconds to wait for the answer, where the client's own do not fit               |             |

    Raises ValueError (pydantic's) for a question that cannot be asked, APIError when there is no answer to it.
    Scores are estimates, and no proof.
    """
    asked = _asked(prompt, messages, response, span, index)
    options = {"filters": filters, "rescore": rescore, "refine": refine, "method": method, "histogram": histogram}
    asked |= {"top_k": top_k, "score": score, "sign": sign, "include": list(include), **_given(options)}
    content = _content(AttributeRequest.model_validate(asked))
    return Call(method="POST", path="/v1/attribute", answer=Attribution, content=content, timeout=timeout)


def attribute_batch(
    questions: Sequence[AttributeRequest | Mapping[str, Any]], *, timeout: float | None = None
) -> Call[BatchAttribution]:
    """Answers to up to 64 questions, in their order; each item has an `attribution`, or an `error` of its own.

    A question is an AttributeRequest, or a mapping of its fields: {"prompt": ..., "response": ...}.
    """
    content = _content(BatchRequest.model_validate({"questions": list(questions)}))
    return Call(method="POST", path="/v1/attribute/batch", answer=BatchAttribution, content=content, timeout=timeout)


def explain(
    *,
    response: str,
    document_ids: Sequence[str],
    prompt: str | None = None,
    messages: Sequence[Message | Mapping[str, str]] | None = None,
    span: tuple[int, int] | None = None,
    index: str = "default",
    refine: int | None = None,
    timeout: float | None = None,
) -> Call[Explanation]:
    """Which tokens of these documents, and of the response, their influence on it is made of.

    The index must have been built with `--factors`. Options are as for `attribute`. Slow: some passes through the model
    for each document.
    """
    asked = _asked(prompt, messages, response, span, index) | {"document_ids": list(document_ids)}
    content = _content(ExplainRequest.model_validate(asked | _given({"refine": refine})))
    return Call(method="POST", path="/v1/explain", answer=Explanation, content=content, timeout=timeout)


def reload(name: str = "default", *, timeout: float | None = None) -> Call[IndexInfo]:
    """Let the server open an index anew, and serve it if it is whole; wants an administrator's key. Never retried."""
    path = f"/v1/indexes/{_segment(name)}/reload"
    return Call(method="POST", path=path, answer=IndexInfo, timeout=timeout, retried=False)


def attribution(id: str, *, timeout: float | None = None) -> Call[Attribution]:
    """An answer of before, by its `id`, or of a chat, by the id in its X-Attribution-ID header; kept for an hour.

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


def _asked(
    prompt: str | None,
    messages: Sequence[Message | Mapping[str, str]] | None,
    response: str,
    span: tuple[int, int] | None,
    index: str,
) -> dict[str, Any]:
    """What every question about a response has, as far as it was given."""
    said = {"prompt": prompt, "messages": None if messages is None else [_plain(message) for message in messages]}
    chosen = None if span is None else {"start": span[0], "stop": span[1]}
    return _given({**said, "span": chosen}) | {"response": response, "index": index}


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was left out: an older server knows not every option."""
    return {name: value for name, value in options.items() if value is not None}


def _content(question: Question) -> bytes:
    return question.model_dump_json(exclude_unset=True, by_alias=True).encode()


def _plain(message: Message | Mapping[str, str]) -> dict[str, str]:
    return message.model_dump() if isinstance(message, Message) else dict(message)


def _segment(name: str) -> str:
    """A name as one segment of a path, whatever it holds; "." and ".." would otherwise be resolved away."""
    if not name:
        raise ValueError("an empty name or id cannot be looked up")
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
