"""Fenced blocks of Markdown, and what the comment above each says of how the tests take it.

    <!-- slow -->              run by `make test-slow` alone
    <!-- fails: 65 -->         the command ends with this code
    <!-- output -->            the last lines of what the block before it printed; `...` stands for anything
    <!-- is: question -->      data that one of the checks in doc_checks.py reads
    <!-- said by: FILE -->     error messages, each of which FILE has in its code
    <!-- not run: REASON -->   what no test can run here; their number has a limit

`sh` and `python` blocks without a comment are run. Any other language wants one of these.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"( *)(`{3,})([\w-]*)[^`]*")
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->")
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
KINDS = ("slow", "fails", "output", "is", "said by", "not run")
RUN = ("sh", "python")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fence. `kind` and `rest` are the two sides of its comment's colon; both are empty without one."""

    page: Path
    line: int  # of the opening fence, from 1
    language: str
    text: str
    kind: str
    rest: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    return list(_blocks(page, page.read_text("utf-8").splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    number, above = 0, ""
    while number < len(lines):
        fence = _FENCE.fullmatch(lines[number])
        if fence is None:
            above = lines[number].strip() or above
            number += 1
            continue
        indent, ticks, language = fence.groups()
        end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == ticks)
        text = "\n".join(line.removeprefix(indent) for line in lines[number + 1 : end]) + "\n"
        comment = _COMMENT.fullmatch(above)
        kind, _, rest = comment[1].partition(": ") if comment else ("", "", "")
        kind = "" if kind == "place" else kind  # said of the page
        yield Block(page=page, line=number + 1, language=language, text=text, kind=kind, rest=rest)
        number, above = end + 1, ""


def names_of(pages: list[Path]) -> list[str]:
    """What tests of pages are called."""
    return [page.relative_to(ROOT).as_posix() for page in pages]


def indented_code(page: Path) -> list[int]:
    """Lines that Markdown takes for code because they are indented: no fence says what they are."""
    found, previous, fenced, listed = [], "", False, False
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if _FENCE.fullmatch(line):
            fenced = not fenced
        elif not fenced:
            listed = bool(re.match(r" *([-*]|\d+\.) |!!!|\?\?\?", line)) or (listed and line[:1] in ("", " "))
            if line.startswith("    ") and not previous.strip() and not listed:
                found.append(number)
        previous = line
    return found
