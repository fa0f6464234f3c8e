"""Requests that are nearly right: valid ones, changed where their structure is, the same ones for the same seed."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

MARK = "zq9 sécret zq9"  # whatever is put in holds it, so that no answer and no log may
MARK_WORD = "zq9"
PATHS = ("/v1/attribute", "/attribute")
TYPES = ("text/plain", "application/json; charset=utf-16", "multipart/form-data", "", "application/jsonzq9")
INDEX_NAMES = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "default/../x",
    "C:\\zq9",
    "%2e%2e%2fzq9",
    "default\x00zq9",
    "ü",
)
RAW_NUMBERS = ("NaN", "-Infinity", "1e999", "9" * 5000, "-0", "01", "1_000", "0x10")


@dataclass(frozen=True)
class Request:
    """What is sent. The content type stands among the headers."""

    method: str
    path: str
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def mutated(seed: int, document_ids: list[str]) -> Iterator[Request]:
    """Without end."""
    draw = random.Random(seed)  # noqa: S311 - nothing is secret here
    while True:
        yield _post(draw, document_ids) if draw.random() < 0.85 else _elsewhere(draw)


def _post(draw: random.Random, document_ids: list[str]) -> Request:
    path, body = _valid(draw, document_ids)
    for _ in range(draw.choice((1, 1, 2, 3))):
        body = _changed(body, draw)
    content = json.dumps(body).encode()  # lone surrogates as escapes, as many clients write them
    headers = {"Content-Type": "application/json"}
    if draw.random() < 0.25:
        content = draw.choice(BYTES)(content, draw)
    if draw.random() < 0.05:
        headers["Content-Type"] = draw.choice(TYPES)
    return Request("POST", path, content, headers)


def _valid(draw: random.Random, document_ids: list[str]) -> tuple[str, dict[str, Any]]:
    question: dict[str, Any] = {"response": f"def read(self): {MARK}", "top_k": 2, "index": "default"}
    if draw.random() < 0.7:
        question["prompt"] = MARK
    else:
        question["messages"] = [{"role": "user", "content": MARK}]
    if draw.random() < 0.02:
        del question["top_k"]
        return "/v1/explain", {**question, "document_ids": document_ids[:1]}
    if draw.random() < 0.4:
        extra = {
            "span": {"start": 0, "stop": 3},
            "score": "cosine",
            "sign": "negative",
            "include": ["text"],
            "filters": {"must": [{"key": "metadata.page", "range": {"gte": 1, "lt": 9}}], "should": []},
        }
        for name in draw.sample(sorted(extra), draw.randint(1, 3)):
            question[name] = extra[name]
    if draw.random() < 0.1:
        return "/v1/attribute/batch", {"questions": [question, copy.deepcopy(question)]}
    return draw.choice(PATHS), question


def _changed(body: Any, draw: random.Random) -> Any:
    """One value anywhere in it replaced, taken out, put in, or wrapped."""
    body = copy.deepcopy(body)
    places = list(_places(body))
    if not places:
        return _odd(draw)
    holder, key = draw.choice(places)
    kind = draw.randrange(6)
    if kind <= 2:
        holder[key] = _odd(draw)
    elif kind == 3:
        del holder[key]
    elif kind == 4 and isinstance(holder, dict):
        holder[f"{MARK} {draw.randrange(9)}"] = _odd(draw)
    else:
        holder[key] = draw.choice(([holder[key]], {MARK: holder[key]}, [holder[key]] * 3))
    return body


def _places(body: Any) -> Iterator[tuple[Any, Any]]:
    pairs = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in pairs:
        yield body, key
        yield from _places(value)


def _odd(draw: random.Random) -> Any:
    return draw.choice(ODD)(draw)


def _nested(depth: int) -> Any:
    value: Any = MARK
    for level in range(depth):
        value = [value] if level % 2 else {MARK: value}
    return value


ODD: list[Callable[[random.Random], Any]] = [
    lambda _: None,
    lambda draw: draw.choice((True, False)),
    lambda draw: draw.choice((-1, 0, 1, 1000, 1001, 2**31, 2**63, 2**64, -(2**63) - 1)),
    lambda draw: draw.choice((0.5, 1e308, -1e-320, 3.0)),
    lambda _: "",
    lambda _: MARK,
    lambda draw: MARK * draw.choice((50, 2000, 20_000)),
    lambda draw: draw.choice((f"\ud800{MARK}", f"\x00{MARK}", f"\u202e{MARK}", f"<script>{MARK}</script>", "\uffff")),
    lambda draw: draw.choice(INDEX_NAMES),
    lambda draw: draw.choice(([], {}, [[]], [{}], {"": ""})),
    lambda draw: [MARK] * draw.choice((1, 3, 200)),
    lambda draw: _nested(draw.choice((3, 30, 90))),
]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _flipped(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(max(1, len(content)))
    return content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]


def _inserted(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice((b"\x00", b'"', b"{", b"\xff\xfe", b"\\u", b"//zq9")) + content[place:]


def _raw_number(content: bytes, draw: random.Random) -> bytes:
    return content.replace(b'"top_k": 2', b'"top_k": ' + draw.choice(RAW_NUMBERS).encode())


def _twice(content: bytes, draw: random.Random) -> bytes:  # noqa: ARG001 - one of BYTES
    return content[:-1] + b", " + content[1:] if content.startswith(b"{") else content + content


BYTES: list[Callable[[bytes, random.Random], bytes]] = [_cut, _flipped, _inserted, _raw_number, _twice]


def _elsewhere(draw: random.Random) -> Request:
    name = quote(draw.choice((*INDEX_NAMES, MARK, MARK * 200, "default")), safe=draw.choice(("", "/")))
    request = Request(
        draw.choice(("GET", "GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS")),
        draw.choice(
            (
                f"/v1/indexes/{name}",
                f"/v1/indexes/{name}/reload",
                f"/v1/documents/{name}",
                f"/v1/documents/{name}?index={name}",
                f"/v1/attributions/{name}",
                f"/page/{name}",
                f"/{name}",
            )
        ),
    )
    return replace(request, headers={"Accept": MARK_WORD}) if draw.random() < 0.2 else request
