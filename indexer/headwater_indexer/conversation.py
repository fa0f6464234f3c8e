"""Conversations as records hold them: turns of a role and what it says."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.values import JSON, json_value, string

Message: TypeAlias = dict[str, JSON]  # with `role` and `content`, both strings, and what else a template may read
ASSISTANT = "assistant"


def read_messages(value: object, what: str) -> tuple[Message, ...]:
    """The turns of a record's field. `what` begins the message of the CorpusError for anything else."""
    if not isinstance(value, list | tuple) or not value:
        raise CorpusError(f'{what} is not a list of turns such as {{"role": "user", "content": "..."}}.')
    turns = tuple(_turn(turn, f"{what}, turn {number}") for number, turn in enumerate(value, start=1))
    if not any(turn["role"] == ASSISTANT and str(turn["content"]).strip() for turn in turns):
        raise CorpusError(f"{what} has no turn of the role {ASSISTANT!r} to train on. Leave this record out.")
    return turns


def _turn(value: object, what: str) -> Message:
    if not isinstance(value, Mapping) or not {"role", "content"} <= set(value):
        raise CorpusError(f'{what} is not of the form {{"role": "user", "content": "..."}}.')
    turn = {string(key, what): json_value(item, f"{what}: {key!r}") for key, item in value.items() if item is not None}
    return turn | {key: string(value[key], f"{what}: {key!r}") for key in ("role", "content")}


def written_out(messages: Sequence[Message]) -> str:
    """The conversation as people read it."""
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in messages)
