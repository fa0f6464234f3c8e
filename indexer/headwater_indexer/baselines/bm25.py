"""BM25 over the documents' texts by SQLite's FTS5 (k1 = 1.2, b = 0.75): the baseline that knows no model.

A question's terms are cut by the tokenizer that cut the documents, and a term counts as often as the question has it.
"""

import sqlite3
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
from jaxtyping import Float32, Int64

from headwater_indexer.corpus import Document
from headwater_indexer.document_tables import reading, writing
from headwater_indexer.durable import PARTIAL, flush
from headwater_indexer.errors import ConfigurationError, IndexDamaged

_TOKENIZER = "unicode61"
# Without the texts themselves, which documents.sqlite has; `totals` says how many there are.
_SCHEMA = f"CREATE VIRTUAL TABLE texts USING fts5 (text, content = '', tokenize = '{_TOKENIZER}')"
# In memory beside them: one question at a time, cut into terms by the same tokenizer.
_QUESTION = f"""
    ATTACH ':memory:' AS asked;
    CREATE VIRTUAL TABLE asked.question USING fts5 (text, tokenize = '{_TOKENIZER}');
    CREATE VIRTUAL TABLE asked.terms USING fts5vocab (question, row);
    CREATE VIRTUAL TABLE temp.places USING fts5vocab (main, texts, instance);
"""


class FullText:
    """BM25 scores of all documents for a question, from any number of threads."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = Lock()  # of the one connection
        with reading(path):
            try:
                connection.executescript(_QUESTION)
                self._length = int(connection.execute("SELECT documents FROM totals").fetchone()[0])
            except (sqlite3.OperationalError, TypeError) as error:
                raise IndexDamaged(f"{path}: not a full-text index ({error}). Build the index again.") from error

    @classmethod
    def write(cls, path: Path, documents: Iterable[Document]) -> None:
        """Writes the file anew: whole, or absent."""
        aside = path.with_name(path.name + PARTIAL)
        aside.unlink(missing_ok=True)
        with writing(path):
            connection = sqlite3.connect(aside, isolation_level=None)
            try:
                _fill(connection, documents)
            finally:
                connection.close()
        flush(aside)
        aside.replace(path)
        flush(path.parent)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises IndexDamaged when the file is missing, or is something else."""
        if not path.is_file():
            raise IndexDamaged(f"{path}: there is no such file. Build the index again.")
        with reading(path):
            connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
        return cls(connection, path)

    @classmethod
    def in_memory(cls, documents: Iterable[Document]) -> Self:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _fill(connection, documents)
        return cls(connection, Path(":memory:"))

    def __len__(self) -> int:
        return self._length

    def scores(self, question: str) -> Float32[np.ndarray, " documents"]:
        """Of all documents by ordinal; 0 for those that share no term with the question."""
        found = np.zeros(len(self), dtype=np.float32)
        for ordinal, score in self._match(question, "SELECT rowid, -bm25(texts) FROM texts WHERE texts MATCH ?"):
            found[ordinal] = score
        return found

    def search(self, question: str, top_k: int) -> list[tuple[int, float]]:
        """(ordinal, score) of the best documents, the best first; those that share no term are not found."""
        best = "SELECT rowid, -rank FROM texts WHERE texts MATCH ? ORDER BY rank, rowid LIMIT ?"
        return self._match(question, best, top_k)

    def terms(self, question: str) -> dict[str, int]:
        """The question's terms, as documents are cut, and how often it has each."""
        with self._lock, reading(self._path):
            return dict(self._terms(question))

    def having(self, term: str) -> tuple[Int64[np.ndarray, " having"], Int64[np.ndarray, " having"]]:
        """The ordinals of the documents that have the term, and how often each has it."""
        select = "SELECT doc, count(*) FROM temp.places WHERE term = ? GROUP BY doc"
        with self._lock, reading(self._path):
            found = np.array(self._connection.execute(select, (term,)).fetchall(), dtype=np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " documents"]:
        """Of all documents by ordinal, in terms."""
        with self._lock, reading(self._path):
            sizes = self._connection.execute("SELECT id, sz FROM texts_docsize").fetchall()
        found = np.zeros(len(self), dtype=np.int64)
        for ordinal, size in sizes:
            found[ordinal] = _varint(size)
        return found

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _match(self, question: str, select: str, *values: int) -> list[tuple[int, float]]:
        with self._lock, reading(self._path):
            terms = [word for term, count in self._terms(question) for word in [_quoted(term)] * count]
            return self._connection.execute(select, (" OR ".join(terms), *values)).fetchall() if terms else []

    def _terms(self, question: str) -> list[tuple[str, int]]:
        self._connection.execute("DELETE FROM asked.question")
        # SQLite's strings may end at a NUL, which no term can hold.
        self._connection.execute("INSERT INTO asked.question VALUES (?)", (_clean(question),))
        return self._connection.execute("SELECT term, cnt FROM asked.terms").fetchall()


def _quoted(term: str) -> str:
    """So that it is not read as FTS5's syntax."""
    return '"{}"'.format(term.replace('"', '""'))


def _varint(size: bytes) -> int:
    """SQLite's integer of variable length: seven bits a byte, the high ones first."""
    value = 0
    for byte in size[:8]:
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            break
    return value


def searchable(document: Document) -> str:
    """What of a document is searched: the prompt too, where it has one."""
    return f"{document.prompt} {document.text}" if document.prompt else document.text


def _fill(connection: sqlite3.Connection, documents: Iterable[Document]) -> None:
    connection.execute("BEGIN")
    try:
        connection.execute(_SCHEMA)
    except sqlite3.OperationalError as error:
        raise ConfigurationError(
            f"this Python's SQLite has no FTS5, which BM25 needs ({error}): take another Python"
        ) from error
    rows = ((ordinal, _clean(searchable(document))) for ordinal, document in enumerate(documents))
    count = connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", rows).rowcount
    connection.execute("CREATE TABLE totals (documents INTEGER NOT NULL)")
    connection.execute("INSERT INTO totals VALUES (?)", (max(0, count),))
    connection.execute("COMMIT")


def _clean(text: str) -> str:
    """Without NULs, and without halves of surrogate pairs, which are no text in UTF-8."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
