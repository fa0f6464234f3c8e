"""The demo's corpus: real text that every Python carries, one document per help topic or docstring.

Two sources: the language reference in `pydoc_data.topics` (what `help("with")` shows) and the docstrings of the
standard library. Modules are parsed, never imported, so that none runs (`import antigravity` opens a web browser).
Run alone:

    python examples/demo/corpus.py --out corpus.jsonl
"""

import ast
import hashlib
import inspect
import json
import platform
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Annotated

import typer
from tqdm import tqdm

MIN_CHARACTERS = 80  # "Return repr(self)." says nothing about anything
MAX_CHARACTERS = 800  # about 256 tokens of the demo's tokenizer, the model's window
LICENCE = "PSF-2.0"
ORIGIN = f"CPython {platform.python_version()}"
# Tests, toys and vendored wheels; pydoc_data is read as topics.
LEFT_OUT = {"antigravity", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tests", "this", "turtledemo"}

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One document before it has an id: a text and where it stands."""

    name: str  # qualified, as in asyncio.queues.Queue.get
    text: str
    source: str  # the module
    kind: str  # topic, module, class or function
    lineno: int  # of the definition in its file; 1 for a module and for a topic
    part: int = 1  # counts from 1 when a long text is split
    parts: int = 1


def help_topics() -> Iterator[Passage]:
    """The language reference: one passage per topic, in alphabetical order."""
    for topic, text in sorted(topics.items()):
        yield Passage(
            name=f"pydoc_data.topics.{topic}", text=text.strip(), source="pydoc_data.topics", kind="topic", lineno=1
        )


def module_files(library: Path) -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of the standard library that is written in Python, sorted by name."""
    found: dict[str, Path] = {}
    for top in sys.stdlib_module_names:
        for path in [library / f"{top}.py", *(library / top).rglob("*.py")]:
            parts = path.relative_to(library).with_suffix("").parts
            if path.is_file() and not any(part in LEFT_OUT or part.startswith("test_") for part in parts):
                found[".".join(parts).removesuffix(".__init__")] = path
    yield from sorted(found.items())


def docstrings(module: str, source: bytes) -> Iterator[Passage]:
    """The docstrings of one module's source, in the order of the file; the code is parsed and not run."""
    yield from _below(ast.parse(source), module, module)


def _below(node: Definition, name: str, module: str) -> Iterator[Passage]:
    kinds = {ast.Module: "module", ast.ClassDef: "class"}
    text = ast.get_docstring(node)
    if text:
        yield Passage(
            name=name,
            text=inspect.cleandoc(text).strip(),
            source=module,
            kind=kinds.get(type(node), "function"),
            lineno=getattr(node, "lineno", 1),
        )
    for child in _definitions(node):
        yield from _below(child, f"{name}.{child.name}", module)


def _definitions(node: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes and functions right below a node, also those under `if` and `try`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        else:
            yield from _definitions(child)


def split(text: str, limit: int = MAX_CHARACTERS) -> list[str]:
    """Cut a long text at paragraphs, else at lines, into pieces of at most `limit` characters; a longer line stays."""
    if len(text) <= limit:
        return [text]
    for separator in ("\n\n", "\n"):
        pieces = text.split(separator)
        if len(pieces) > 1:
            break
    else:
        return [text]
    packed = [""]
    for piece in pieces:
        joined = packed[-1] + separator + piece if packed[-1] else piece
        if len(joined) <= limit or not packed[-1]:
            packed[-1] = joined
        else:
            packed.append(piece)
    if separator == "\n":
        return packed
    return [part for piece in packed for part in split(piece, limit)]


def passages(library: Path) -> Iterator[Passage]:
    """Every topic and docstring that is long enough, split where long, each text once."""
    seen: set[bytes] = set()
    for whole in _whole_passages(library):
        texts = [text.strip("\n") for text in split(whole.text)]
        texts = [text for text in texts if len(text.strip()) >= MIN_CHARACTERS]
        for part, text in enumerate(texts, start=1):
            digest = hashlib.sha256(text.encode()).digest()
            if digest not in seen:
                seen.add(digest)
                yield Passage(**{**asdict(whole), "text": text, "part": part, "parts": len(texts)})


def _whole_passages(library: Path) -> Iterator[Passage]:
    yield from help_topics()
    wait = 0.2 if sys.stderr.isatty() else 10
    for module, path in tqdm(list(module_files(library)), desc="corpus", unit=" modules", mininterval=wait):
        yield from docstrings(module, path.read_bytes())


def records(found: Iterable[Passage]) -> Iterator[dict[str, object]]:
    """Passages as the records of a corpus: {id, text, source} and metadata, each id once."""
    taken: set[str] = set()
    for passage in found:
        name = passage.name if passage.parts == 1 else f"{passage.name}#{passage.part}"
        unique = name if name not in taken else f"{name}@{passage.lineno}"  # a setter has its property's name
        taken.add(unique)
        metadata = {"licence": LICENCE, "origin": ORIGIN, "kind": passage.kind, "name": passage.name}
        place = {"lineno": passage.lineno, "part": passage.part, "parts": passage.parts}
        yield {"id": unique, "text": passage.text, "source": passage.source, **metadata, **place}


def main(out: Annotated[Path, typer.Option(help="Where the JSONL file is written.")]) -> None:
    """Write the documents of this Python's language reference and standard library."""
    with out.open("w", encoding="utf-8", newline="\n") as file:
        for record in records(passages(Path(sysconfig.get_path("stdlib")))):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
