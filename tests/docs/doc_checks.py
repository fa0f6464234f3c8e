"""What a block of data on a page has to be. `<!-- is: NAME -->` above it chooses the check."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

from doc_blocks import ROOT
from doc_containers import check_container_commands

import headwater
from headwater.types import Problem
from headwater_indexer.corpus import read_documents
from headwater_server.settings import read_settings


def _documents(text: str, place: Path) -> None:
    file = place / "documents.jsonl"
    file.write_text(text)
    assert len(list(read_documents(str(file)))) == len(text.splitlines())


def _settings(text: str, place: Path) -> None:
    file = place / "settings.toml"
    file.write_text(text)
    read_settings({}, file)


def _answer(text: str, _: Path) -> None:
    found = headwater.Attribution.model_validate_json(text).model_dump(mode="json")
    assert json.loads(text).keys() <= found.keys()


def _question(text: str, _: Path) -> None:
    headwater.AttributeRequest.model_validate_json(text)


def _problem(text: str, _: Path) -> None:
    assert json.loads(text).keys() <= Problem.model_validate_json(text).model_dump(mode="json").keys()


def _bibtex(text: str, _: Path) -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    for field in re.findall(r"= +\{+(.+?)\}+,?\n", text):
        assert field in citation or re.fullmatch(r"20\d\d", field), f"CITATION.cff does not say {field!r}"


CHECKS: dict[str, Callable[[str, Path], None]] = {
    "documents": _documents,
    "settings": _settings,
    "question": _question,
    "answer": _answer,
    "problem": _problem,
    "bibtex": _bibtex,
    "containers": check_container_commands,
}


def printed_at_the_end(expected: str, printed: str) -> bool:
    """Whether the output ends with these lines; `...` stands for anything, also for several lines."""
    parts = [re.escape(part) for part in expected.strip().split("...")]
    return re.search(r"[\s\S]*?".join(parts) + r"\s*\Z", printed) is not None


def messages_of(file: Path) -> list[re.Pattern[str]]:
    """Every string and f-string of a Python file as a pattern, what is filled in standing for anything."""
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in node.values]
            found.append(re.compile("".join(parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            found.append(re.compile(re.escape(node.value)))
    return found
