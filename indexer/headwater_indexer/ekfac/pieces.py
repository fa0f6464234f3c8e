"""Tokens as a person sees them: the piece of text that each is, and where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TokenInfluence:
    """A token, its characters in the text (None for those from elsewhere: a prompt, marks such as <s>, a tokenizer
    that does not tell), and its share of the influence."""

    text: str
    start: int | None
    end: int | None
    influence: float


def with_pieces(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    ids: Sequence[int],
    influences: Float[np.ndarray, " tokens"],
    *,
    begin: int = 0,
) -> tuple[TokenInfluence, ...]:
    """The tokens `ids`, among which those of `text` stand next to one another from the place `begin` or later; the
    last of them may be cut off."""
    places = _places(tokenizer, text, ids, begin)
    tokens = []
    for token, place, influence in zip(ids, places, influences, strict=True):
        start, end = place or (None, None)
        piece = text[start:end] if place else str(tokenizer.decode([token]))
        tokens.append(TokenInfluence(text=piece, start=start, end=end, influence=float(influence)))
    return tuple(tokens)


def _places(
    tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int], begin: int
) -> list[tuple[int, int] | None]:
    places: list[tuple[int, int] | None] = [None] * len(ids)
    if not tokenizer.is_fast:
        return places
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    wanted, known = list(encoded["input_ids"]), list(ids)
    for start in range(begin, len(known)):
        shared = min(len(wanted), len(known) - start)
        if known[start : start + shared] == wanted[:shared]:
            for place in range(shared):
                first, last = encoded["offset_mapping"][place]
                places[start + place] = (int(first), int(last))
            break
    return places
