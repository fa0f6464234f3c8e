"""The two kinds of completion: where the upstream has them, what was asked, and where their text stands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headwater_server.problems import ProblemError

Fields = Mapping[str, Any]
_CHANGES_THE_PROMPT = (  # so that it is no longer what the index's chat template makes of the messages
    *("tools", "functions", "documents", "chat_template", "chat_template_kwargs"),
    *("continue_final_message", "echo", "suffix"),
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`pair` tells what stood before the answer, as an AttributeRequest has it; raises ProblemError if it cannot."""

    path: str  # below the upstream's base URL
    chunk_object: str  # of one chunk, as its `object` says
    empty_choice: Fields  # in a chunk without a token
    text_of: Callable[[Fields], object]  # of a choice, whole or a chunk's
    pair: Callable[[Fields], dict[str, Any]]


def _conversation(fields: Fields) -> dict[str, Any]:
    _require_plain(fields)
    messages = fields.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        raise _unsupported("the messages are no list of objects")
    return {"messages": [_plain_message(message) for message in messages]}


def _text_before(fields: Fields) -> dict[str, Any]:
    _require_plain(fields)
    prompt = fields.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if len(prompts) != 1 or not isinstance(prompts[0], str):
        raise _unsupported("the prompt is not one text")
    return {"prompt": prompts[0]}


def _plain_message(message: Fields) -> dict[str, str]:
    """Role and text. Anything else in a message may be in the prompt too, and the index could not tell how."""
    more = [name for name, value in message.items() if value not in (None, [], {}) and name not in ("role", "content")]
    if more:
        raise _unsupported("a message holds more than its role and text")
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    if len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        raise _unsupported("a message holds something other than text")
    return {"role": message.get("role", ""), "content": "".join(map(str, texts))}


def _require_plain(fields: Fields) -> None:
    if names := [name for name in _CHANGES_THE_PROMPT if fields.get(name) not in (None, False, [], {}, "")]:
        raise _unsupported(f"`{names[0]}` changes the prompt")


def _unsupported(why: str) -> ProblemError:
    return ProblemError(422, "unsupported_request", f"The answer to this request cannot be attributed: {why}.")


def _spoken(choice: Fields) -> object:
    said = choice.get("message") or choice.get("delta")
    return said.get("content") if isinstance(said, Mapping) else None


CHAT = Kind(
    path="/chat/completions",
    chunk_object="chat.completion.chunk",
    empty_choice={"index": 0, "delta": {}, "finish_reason": None},
    text_of=_spoken,
    pair=_conversation,
)
COMPLETION = Kind(
    path="/completions",
    chunk_object="text_completion",
    empty_choice={"index": 0, "text": "", "logprobs": None, "finish_reason": None},
    text_of=lambda choice: choice.get("text"),
    pair=_text_before,
)
