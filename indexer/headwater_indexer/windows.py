"""Text into token windows: what the model sees, and from which token on the loss counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int32
from transformers import PreTrainedTokenizerBase

from headwater_indexer.chat_template import assistant_tokens
from headwater_indexer.corpus import Document
from headwater_indexer.errors import ConfigurationError, PairError

LongDocuments = Literal["windows", "truncate"]
Span = tuple[int, int]  # characters of the response: the first, and the one after the last
TokenIds = Int32[np.ndarray, " time"]
SHORTEST_WINDOW = 8  # tokens; below this a window has hardly any context


@dataclass(frozen=True, kw_only=True)
class Window:
    """One sequence for the model. The loss is summed over the tokens from `first_target` to the end, or over those
    among them that `counted` chooses."""

    input_ids: TokenIds
    first_target: int  # >= 1: a token is predicted from those before it
    counted: Bool[np.ndarray, " time"] | None = None  # None: all of them

    @property
    def is_target(self) -> Bool[np.ndarray, " time"]:
        """The tokens whose loss counts."""
        from_first = np.arange(len(self.input_ids)) >= self.first_target
        return from_first if self.counted is None else from_first & self.counted

    @property
    def targets(self) -> int:
        """How many tokens count."""
        return int(self.is_target.sum())


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A prompt and response in tokens; the loss counts on the response alone, or on its `chosen` tokens."""

    input_ids: tuple[int, ...]
    prompt_tokens: int
    response_tokens: int
    chosen: tuple[bool, ...] | None = None  # one for each token of the response; None for all of them

    @property
    def window(self) -> Window:
        counted = None if self.chosen is None else np.array([False] * self.prompt_tokens + list(self.chosen))
        return Window(
            input_ids=np.asarray(self.input_ids, dtype=np.int32),
            first_target=max(1, self.prompt_tokens),
            counted=counted,
        )

    @property
    def counted_tokens(self) -> int:
        """Tokens of the response whose loss counts. A first token with nothing before it never does."""
        return self.window.targets


class Encoder:
    """Tokenises documents and questions with what the tokenizer puts around a text by itself."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        """`max_length` in tokens is the longest window. Raises ConfigurationError when it is too short to be useful."""
        if max_length < SHORTEST_WINDOW:
            raise ConfigurationError(f"--max-length {max_length}: a window needs at least {SHORTEST_WINDOW} tokens")
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._prefix, self._suffix = _special_tokens_around(tokenizer)

    def document(self, document: Document, *, long: LongDocuments = "windows") -> list[Window]:
        """The document's windows. Each token but the first is predicted exactly once: a window begins with the last
        token of the one before it. Windows without a token that counts are left out; `truncate` keeps the first."""
        tokens, counted = self._tokens(document)
        if long == "truncate":
            tokens, counted = tokens[: self.max_length], counted[: self.max_length]
        starts = range(0, max(1, len(tokens) - 1), self.max_length - 1)
        windows = [
            _window(tokens[start : start + self.max_length], counted[start : start + self.max_length])
            for start in starts
        ]
        return [window for window in windows if window.targets > 0]

    def _tokens(self, document: Document) -> tuple[TokenIds, Bool[np.ndarray, " time"]]:
        """The document's tokens, and which of them count."""
        if document.messages is not None:
            ids, said = assistant_tokens(self._tokenizer, document.messages, document.id)
            return np.asarray(ids, dtype=np.int32), said
        prompt = self._ids(document.prompt) if document.prompt else []
        tokens = np.asarray([*self._prefix, *prompt, *self._ids(document.text), *self._suffix], dtype=np.int32)
        context = len(self._prefix) + len(prompt) if document.prompt is not None else 0
        return tokens, np.arange(len(tokens)) >= context

    def pair(self, prompt: str, response: str, *, span: Span | None = None) -> Pair:
        """A question in tokens, about the whole response or the characters of it from `span[0]` to before `span[1]`.

        A token counts if it overlaps the span, so the part that is asked about may begin and end some characters
        outside it. Raises PairError when the response is empty, no token of the span counts, or the pair is too long.
        """
        return self._checked(prompt, response, self._prefix, "response", span)

    def messages(self, messages: Sequence[dict[str, str]], response: str, *, span: Span | None = None) -> Pair:
        """A conversation through the model's chat template, and the answer to it, in tokens; `span` as in `pair`.

        Raises PairError when the tokenizer has no template, or the template refuses the messages.
        """
        if not self._tokenizer.chat_template:
            raise PairError(
                "this model's tokenizer has no chat template: send `prompt` instead of `messages`",
                param="messages",
                code="no_chat_template",
            )
        try:
            prompt = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except Exception as error:
            raise PairError(
                "the model's chat template refuses these messages: check roles and their order",
                param="messages",
                code="invalid_messages",
            ) from error
        return self._checked(str(prompt), response, [], "messages", span)

    def truncated_pair(self, prompt: str, response: str) -> Pair:
        """A question cut as training scripts cut long examples: the beginning is kept. A prompt that would leave no
        room for the response loses its own beginning, down to half the length."""
        prompt_ids, response_ids = self._split(prompt, response, self._prefix)
        if len(prompt_ids) >= self.max_length:
            prompt_ids = prompt_ids[-(self.max_length // 2) :]
        return _pair(prompt_ids, response_ids[: self.max_length - len(prompt_ids)])

    def _checked(self, prompt: str, response: str, prefix: list[int], context: str, span: Span | None) -> Pair:
        pair = _pair(*self._split(prompt, response, prefix))
        if len(pair.input_ids) > self.max_length:
            raise PairError(
                f"prompt and response have {len(pair.input_ids)} tokens ({pair.prompt_tokens} + "
                f"{pair.response_tokens}), and this index takes at most {self.max_length}: shorten the prompt, or ask "
                "about a part",
                param=context,
                code="too_long",
            )
        return pair if span is None else self._spanned(pair, response, span)

    def _spanned(self, pair: Pair, response: str, span: Span) -> Pair:
        if not self._tokenizer.is_fast:
            raise PairError(
                "this model's tokenizer does not tell which characters a token is of: ask about the whole response",
                param="span",
                code="no_spans",
            )
        offsets = self._tokenizer(response, add_special_tokens=False, verbose=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        start, stop = span
        spanned = replace(pair, chosen=tuple(bool(first < stop and last > start) for first, last in offsets))
        if not spanned.counted_tokens:
            raise PairError(
                "the span holds no token that is predicted from another: choose more of the response, or send a prompt",
                param="span",
                code="empty_span",
            )
        return spanned

    def _split(self, prompt: str, response: str, prefix: list[int]) -> tuple[list[int], list[int]]:
        """The ids of both, tokenised apart, as a server hands them on: the response follows the prompt's tokens."""
        if not response:
            raise PairError(
                "the response is empty: send the text to attribute", param="response", code="empty_response"
            )
        return [*prefix, *self._ids(prompt)], self._ids(response)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _window(tokens: TokenIds, counted: Bool[np.ndarray, " time"]) -> Window:
    """Its first token is predicted by none, or belongs to the window before."""
    first = max(1, int(counted[1:].argmax()) + 1) if len(tokens) > 1 else 1
    rest = counted[first:]
    return Window(input_ids=tokens, first_target=first, counted=None if rest.all() else counted)


def _pair(prompt_ids: list[int], response_ids: list[int]) -> Pair:
    if len(prompt_ids) + len(response_ids) < 2 or not response_ids:
        raise PairError(
            "the response has no token that is predicted from another: send a prompt, or a longer response",
            param="response",
            code="empty_response",
        )
    return Pair(
        input_ids=(*prompt_ids, *response_ids), prompt_tokens=len(prompt_ids), response_tokens=len(response_ids)
    )


def _special_tokens_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What this tokenizer puts before and after a text by itself, such as <s>."""
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    dressed = list(tokenizer("a")["input_ids"])
    for start in range(len(dressed) - len(plain) + 1):
        if dressed[start : start + len(plain)] == plain:
            return dressed[:start], dressed[start + len(plain) :]
    return [], []
