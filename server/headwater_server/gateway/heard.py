"""What an upstream's answer says, read along while its bytes pass: the model, the text of the first choice, its end."""

import json
from collections.abc import Mapping
from typing import Any

from headwater_server.gateway.kinds import Kind
from headwater_server.problems import ProblemError


class Heard:
    """Fed with every object of the answer: one if it is whole, one a chunk if it is streamed.

    Nothing that an upstream sends makes it raise; `problem` says why the text is not all of a good answer.
    """

    def __init__(self, kind: Kind, max_characters: int) -> None:
        self.kind = kind
        self.model: str | None = None
        self.finished = False
        self.problem: ProblemError | None = None
        self._first: Mapping[str, Any] = {}
        self._parts: list[str] = []
        self._room = max_characters

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def read(self, data: bytes) -> bool:
        """One JSON object of the answer; False for anything else, which is a riddle."""
        try:
            found = json.loads(data.decode())
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, Mapping):
            self.give_up("unreadable", "The language model's endpoint sent something that is no JSON object.")
            return False
        if found.get("error"):
            self.give_up("upstream_error", "The language model's endpoint sent an error within its answer.")
        self._first = self._first or {name: found.get(name) for name in ("id", "created", "model")}
        if self.model is None and isinstance(found.get("model"), str):
            self.model = found["model"]
        choices = found.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, Mapping) and choice.get("index", 0) == 0:
                self._listen(choice)
        return True

    def give_up(self, code: str, sentence: str) -> None:
        """The answer cannot be attributed; the first reason stands."""
        self.problem = self.problem or ProblemError(502, code, sentence)

    def last_chunk(self, attribution: Mapping[str, Any]) -> bytes:
        """An event in the manner of the others, with no token, that carries the attribution."""
        chunk = {**self._first, "object": self.kind.chunk_object, "choices": [self.kind.empty_choice]}
        return b"data: " + json.dumps({**chunk, "attribution": attribution}).encode() + b"\n\n"

    def _listen(self, choice: Mapping[str, Any]) -> None:
        said = self.kind.text_of(choice)
        if isinstance(said, str) and said:
            self._room -= len(said)
            if self._room < 0:
                self.give_up("too_long", "The answer has more characters than this server takes.")
            else:
                self._parts.append(said)
        self.finished = self.finished or choice.get("finish_reason") is not None
