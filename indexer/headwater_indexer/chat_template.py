"""What a chat template makes of a conversation, in tokens, and which of them the assistant said."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerBase

from headwater_indexer.conversation import ASSISTANT, Message
from headwater_indexer.errors import CorpusError

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARK = "\u2063headwater\u2063"  # stands in for a turn's words, to see where a template puts them
_OPENING = "<think>"
_THOUGHT = re.compile(rf"(\s*{_OPENING}(.*?)</think>\s*)", re.DOTALL)
Turns = Sequence[Message]


def assistant_tokens(
    tokenizer: PreTrainedTokenizerBase, messages: Turns, document: str
) -> tuple[list[int], Bool[np.ndarray, " tokens"]]:
    """The conversation's ids through the model's chat template, and which of them the assistant said.

    The special token that ends a turn counts with it: the assistant says that it has finished. Raises CorpusError with
    the name of the `document` when the model has no template, or one in which its words cannot be found.
    """
    if not tokenizer.chat_template:
        raise CorpusError(
            f"document {document!r} has messages, and this model's tokenizer has no chat template: write each exchange "
            "as prompt and response, or give the tokenizer the template that the model was trained with"
        )
    if not tokenizer.is_fast:
        raise CorpusError(
            f"document {document!r} has messages, and this model's tokenizer does not say which characters its tokens "
            "are (it is no fast tokenizer): write each exchange as prompt and response"
        )
    if _GENERATION.search(str(tokenizer.chat_template)):
        return _by_template(tokenizer, messages, document)
    text = _rendered(tokenizer, messages, document)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = list(encoded["input_ids"])
    starts, ends = np.array(encoded["offset_mapping"]).reshape(-1, 2).T
    said = np.zeros(len(ids), dtype=bool)
    for start, end in _spans(tokenizer, messages, text, document):
        inside = (starts < end) & (ends > start)
        said |= inside
        after = int(inside.nonzero()[0][-1]) + 1 if inside.any() else len(ids)
        if after < len(ids) and starts[after] == end and _is_special(tokenizer, ids[after]):
            said[after] = True
    return ids, said


def _by_template(
    tokenizer: PreTrainedTokenizerBase, messages: Turns, document: str
) -> tuple[list[int], Bool[np.ndarray, " tokens"]]:
    """For a template that marks what the assistant generates, as trainers read it."""
    encoded = _applied(tokenizer, messages, document, return_dict=True, return_assistant_tokens_mask=True)
    return list(encoded["input_ids"]), np.array(encoded["assistant_masks"], dtype=bool)


def _spans(tokenizer: PreTrainedTokenizerBase, messages: Turns, text: str, document: str) -> Iterator[tuple[int, int]]:
    """The characters of each assistant's turn in the rendered `text`.

    The template is run once more with marks in place of the words: what stands around the marks must stand, the same,
    around the words.
    """
    spoken: list[_Spoken] = []
    marked: list[Message] = []
    for turn in messages:
        if turn["role"] == ASSISTANT:
            spoken.append(_Spoken.of(turn))
            marked.append({**turn, "content": spoken[-1].before + _MARK})
        else:
            marked.append(turn)
    around = _rendered(tokenizer, marked, document).split(_MARK)
    if len(around) != len(spoken) + 1 or not text.startswith(around[0]):
        raise _altered(document)
    place = len(around[0])
    for answer, before, following in zip(spoken, around, around[1:], strict=False):
        said = answer.as_rendered(text, place, following)
        if said is None:
            raise _altered(document)
        yield place - answer.thought_length(before), place + len(said)
        place += len(said) + len(following)
    if place != len(text):
        raise _altered(document)


@dataclass(frozen=True, kw_only=True)
class _Spoken:
    """What the assistant says in a turn: a thought, which some templates leave out of all turns but the last, and the
    words after it."""

    before: str  # of the content, up to the words
    thought: str
    words: str

    @classmethod
    def of(cls, turn: Message) -> "_Spoken":
        content, apart = str(turn["content"]), turn.get("reasoning_content")
        if (found := _THOUGHT.match(content)) is not None:
            return cls(before=found[1], thought=found[2].strip(), words=content[found.end() :])
        return cls(before="", thought=apart.strip() if isinstance(apart, str) else "", words=content)

    def as_rendered(self, text: str, place: int, following: str) -> str | None:
        """The words as they stand at this place; many templates take the white space around a turn away."""
        words = self.words
        forms = (words, words.strip(), words.lstrip(), words.rstrip())
        return next((said for said in forms if text.startswith(said + following, place)), None)

    def thought_length(self, before: str) -> int:
        """How many characters at the end of what stands before the words are the thought, with what opens it."""
        start = before.rfind(_OPENING)
        return len(before) - start if self.thought and start >= 0 and self.thought in before[start:] else 0


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Turns, document: str) -> str:
    return str(_applied(tokenizer, messages, document, tokenize=False))


def _applied(tokenizer: PreTrainedTokenizerBase, messages: Turns, document: str, **options: Any) -> Any:
    turns: Any = list(messages)
    try:
        return tokenizer.apply_chat_template(turns, **options)
    except Exception as error:
        raise _refused(document, error) from error


def _is_special(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    added = tokenizer.added_tokens_decoder.get(token)
    return token in tokenizer.all_special_ids or (added is not None and added.special)


def _refused(document: str, error: Exception) -> CorpusError:
    reason = str(error).strip().splitlines()
    return CorpusError(
        f"document {document!r}: the model's chat template refuses its messages "
        f"({reason[0] if reason else type(error).__name__}): check roles and their order"
    )


def _altered(document: str) -> CorpusError:
    return CorpusError(
        f"document {document!r}: the model's chat template alters what the assistant says, so its words cannot be told "
        "from the rest: mark them in the template with {% generation %}, or write each exchange as prompt and response"
    )
