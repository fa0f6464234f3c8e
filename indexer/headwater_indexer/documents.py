"""The documents of an index in one SQLite file, by ordinal (the order in which they were added) and by id.

Whatever stops a build, its DocumentWriter leaves whole documents from the first on, with a write-ahead log beside the
file. DocumentWriter.close() folds the log in, and DocumentStore reads the one file as something that never changes.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from jaxtyping import Int64

from headwater_indexer.corpus import Document
from headwater_indexer.document_tables import check_format, length, prepare, reading, writing
from headwater_indexer.durable import flush
from headwater_indexer.errors import CorpusError, IndexDamaged, StorageError
from headwater_indexer.filters import Sql, Where

_PAGE = 1000  # rows in memory while iterating
_SCANNERS = 2  # filters that are looked for at once
_KEPT_FILTERS = 16  # of each, 8 bytes a document that passes
_DOCUMENT = "SELECT ordinal, id, source, text, prompt, messages, metadata FROM documents JOIN texts USING (ordinal)"
_SOURCES_OF = """
    SELECT source, count(*) FROM documents
    WHERE source IS NOT NULL AND ordinal IN (SELECT value FROM json_each(?)) GROUP BY source
"""
_COUNTED = """
    SELECT coalesce(sum(windows), 0), coalesce(sum(tokens), 0) FROM documents
    WHERE ordinal IN (SELECT value FROM json_each(?))
"""


class Documents(Protocol):
    """Documents by ordinal."""

    def __len__(self) -> int: ...

    def by_ordinal(self, ordinals: Sequence[int]) -> list[Document]: ...


class DocumentWriter:
    """Adds documents to a new file, or to one that an earlier build left. For one thread, and one process at a time.

    Raises StorageError when the file cannot be written, and IndexDamaged when it is not a file of this format.
    """

    def __init__(self, path: Path, *, commit_every: int = 1000) -> None:
        self._path = path
        self._commit_every = commit_every
        self._pending = 0
        with writing(path):
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)  # seconds for another writer
            try:
                self._length = prepare(self._connection, path)
            except BaseException:
                self._connection.close()
                raise

    def __len__(self) -> int:
        return self._length

    def add(self, document: Document, *, windows: int, tokens: int) -> int:
        """The document's ordinal. Raises CorpusError when an earlier one has the same id; it is not added then."""
        ordinal = self._length
        with writing(self._path):
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN")
            self._insert(ordinal, document, windows, tokens)
        self._length += 1
        self._pending += 1
        if self._pending >= self._commit_every:
            self.commit()
        return ordinal

    def matches(self, ordinal: int, document: Document) -> bool:
        """Whether this very document was added as `ordinal`: a build that goes on can pass over it."""
        with writing(self._path):
            row = self._connection.execute(f"{_DOCUMENT} WHERE ordinal = ?", (ordinal,)).fetchone()
        return row is not None and _document(row, self._path) == document

    def commit(self) -> None:
        """Returns when a killed process can no longer lose what was added."""
        with writing(self._path):
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        self._pending = 0

    def close(self) -> None:
        """Commits, and folds the log into the one file."""
        try:
            self.commit()
            with writing(self._path):
                self._connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._connection.close()
        flush(self._path)
        flush(self._path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.close()
            return
        with suppress(StorageError):  # what stopped the build is told, not what follows from it
            self.close()

    def _insert(self, ordinal: int, document: Document, windows: int, tokens: int) -> None:
        """Into both tables, or neither."""
        small = (ordinal, document.id, document.source, windows, tokens)
        try:
            self._connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", small)
        except sqlite3.IntegrityError as error:
            raise self._duplicate(document, ordinal) from error
        try:
            messages = None if document.messages is None else _json(document.messages)
            large = (ordinal, document.text, document.prompt, messages, _json(document.metadata))
            self._connection.execute("INSERT INTO texts VALUES (?, ?, ?, ?, ?)", large)
        except BaseException:
            self._forget_pending()
            raise

    def _forget_pending(self) -> None:
        """Back to the last commit, where both tables agree."""
        if self._connection.in_transaction:  # a full disk may have ended it
            self._connection.execute("ROLLBACK")
        self._length, self._pending = length(self._connection), 0

    def _duplicate(self, document: Document, ordinal: int) -> CorpusError:
        first = self._connection.execute("SELECT ordinal FROM documents WHERE id = ?", (document.id,)).fetchone()
        if first is None:
            raise IndexDamaged(f"{self._path} holds more documents than it counts. Delete it and build again.")
        return CorpusError(
            f"the id {document.id!r} is given twice: to documents {first[0]} and {ordinal}, counted from 0. "
            "Give each document an id of its own, or let `--id-field ''` name them by file and line."
        )


class DocumentStore:
    """Reads the finished file, from any number of threads.

    Raises IndexDamaged when it is missing, unfinished, damaged or of another format, also later, while reading.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()  # of the one connection; a look-up takes some ten microseconds
        if not path.is_file():
            raise IndexDamaged(f"{path}: there is no such file. Build the index again.")
        if any(path.with_name(path.name + log).exists() for log in ("-wal", "-journal")):
            raise IndexDamaged(
                f"{path}: the build that writes it has not finished. Run it again: it goes on from there."
            )
        self._uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._scanners: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._matching = lru_cache(maxsize=_KEPT_FILTERS)(self._scan)  # the file never changes
        with reading(path):
            self._connection = self._connected()
            for _ in range(_SCANNERS):
                self._scanners.put(self._connected())
            try:
                check_format(self._connection, path)
                self._length = length(self._connection)
            except BaseException:
                self._connection.close()
                raise

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Document]:
        """The documents by ordinal; some are in memory at a time."""
        return (_document(row, self._path) for row in self._rows(_DOCUMENT, 0, self._length))

    def ids(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The ids of the ordinals from `start` to before `stop`, by ordinal."""
        rows = self._rows("SELECT ordinal, id FROM documents", start, self._length if stop is None else stop)
        return (row[1] for row in rows)

    def by_ordinal(self, ordinals: Sequence[int]) -> list[Document]:
        """One document for each ordinal, in the order asked. Raises IndexError for an ordinal that there is none of."""
        return [self._one(ordinal) for ordinal in ordinals]

    def by_id(self, document_id: str) -> Document | None:
        rows = self._fetch(f"{_DOCUMENT} WHERE id = ?", document_id)
        return _document(rows[0], self._path) if rows else None

    def ordinals(self, document_ids: Sequence[str]) -> list[int | None]:
        """The ordinal of each id, in the order asked; None for one that there is not."""
        found = (self._fetch("SELECT ordinal FROM documents WHERE id = ?", one) for one in document_ids)
        return [int(rows[0][0]) if rows else None for rows in found]

    def tokens(self, stop: int | None = None) -> int:
        """Of the documents before the ordinal `stop` together; of all of them without it."""
        before = self._length if stop is None else stop
        return int(self._fetch("SELECT coalesce(sum(tokens), 0) FROM documents WHERE ordinal < ?", before)[0][0])

    def windows(self) -> int:
        """Of all documents together."""
        return int(self._fetch("SELECT coalesce(sum(windows), 0) FROM documents")[0][0])

    def sources(self) -> dict[str, int]:
        """How many documents each source has, most first; documents without a source are not counted."""
        named = "SELECT source, count(*) AS documents FROM documents WHERE source IS NOT NULL GROUP BY source"
        return dict(self._fetch(f"{named} ORDER BY documents DESC, source"))

    def sources_of(self, ordinals: Sequence[int]) -> dict[str, int]:
        """How many of these documents each source has."""
        return dict(self._fetch(_SOURCES_OF, json.dumps(list(ordinals))))

    def counted(self, ordinals: Sequence[int]) -> tuple[int, int]:
        """The windows and the tokens of these documents together."""
        [(windows, tokens)] = self._fetch(_COUNTED, json.dumps(list(ordinals)))
        return windows, tokens

    def matching(self, where: Where) -> Int64[np.ndarray, " ordinals"]:
        """The ordinals of the documents that pass, in their order; what was asked lately is kept.

        Reads all documents by a connection of its own, so that look-ups need not wait for it. It is open from the
        first, since the file may be deleted while it is read: by `compact`, which made another.
        """
        return self._matching(where.sql())

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._uri, uri=True, check_same_thread=False)

    def _scan(self, where: Sql) -> Int64[np.ndarray, " ordinals"]:
        with reading(self._path), self._scanner() as connection:
            select = f"SELECT ordinal FROM documents WHERE {where.text} ORDER BY ordinal"  # noqa: S608  values are bound
            found = connection.execute(select, where.values)
            ordinals = np.fromiter((row[0] for row in found), dtype=np.int64)
        ordinals.flags.writeable = False  # it is given to all who ask the same
        return ordinals

    @contextmanager
    def _scanner(self) -> Iterator[sqlite3.Connection]:
        connection = self._scanners.get()
        try:
            yield connection
        finally:
            self._scanners.put(connection)

    def close(self) -> None:
        with self._lock:
            self._connection.close()
        for _ in range(_SCANNERS):
            connection = self._scanners.get()  # when its scan is done
            connection.close()
            self._scanners.put(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _one(self, ordinal: int) -> Document:
        if not 0 <= ordinal < self._length:
            raise IndexError(f"there is no document {ordinal}: the index has {self._length}, counted from 0")
        rows = self._fetch(f"{_DOCUMENT} WHERE ordinal = ?", int(ordinal))
        if not rows:
            raise IndexDamaged(f"{self._path}: document {ordinal} is missing. Build the index again.")
        return _document(rows[0], self._path)

    def _rows(self, select: str, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """Pages of rows by ordinal; the lock is free between them."""
        for first in range(start, stop, _PAGE):
            page = f"{select} WHERE ordinal >= ? AND ordinal < ? ORDER BY ordinal"
            yield from self._fetch(page, first, min(first + _PAGE, stop))

    def _fetch(self, query: str, *values: int | str) -> list[tuple[Any, ...]]:
        with self._lock, reading(self._path):
            return self._connection.execute(query, values).fetchall()


def _document(row: tuple[Any, ...], path: Path) -> Document:
    ordinal, document_id, source, text, prompt, messages, metadata = row
    try:
        values = json.loads(metadata)
        turns = None if messages is None else tuple(json.loads(messages))
    except (ValueError, TypeError) as error:
        raise IndexDamaged(f"{path}: the metadata of document {ordinal} is damaged. Build the index again.") from error
    return Document(id=document_id, text=text, source=source, metadata=values, prompt=prompt, messages=turns)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
