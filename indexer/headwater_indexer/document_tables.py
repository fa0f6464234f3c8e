"""The tables of documents.sqlite, how the file is opened for writing, and what SQLite's complaints mean.

documents   ordinal, id, source, windows, tokens     small rows: ids, totals and sources are read without the texts
texts       ordinal, text, prompt, messages, metadata     messages and metadata as JSON
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater_indexer.errors import IndexDamaged, StorageError

FORMAT = 2  # PRAGMA user_version
_APPLICATION = 0x48574452  # "HWDR", PRAGMA application_id
_SCHEMA = f"""
    BEGIN;
    CREATE TABLE documents (
        ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, source TEXT,
        windows INTEGER NOT NULL, tokens INTEGER NOT NULL
    );
    CREATE TABLE texts (
        ordinal INTEGER PRIMARY KEY, text TEXT NOT NULL, prompt TEXT, messages TEXT, metadata TEXT NOT NULL
    );
    PRAGMA application_id = {_APPLICATION};
    PRAGMA user_version = {FORMAT};
    COMMIT;
"""


def prepare(connection: sqlite3.Connection, path: Path) -> int:
    """Makes the tables, or recognises them; how many documents are there."""
    # One writer at a time, and no shared memory file, which a network file system could not have.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        connection.executescript(_SCHEMA)
    check_format(connection, path)
    return length(connection)


def check_format(connection: sqlite3.Connection, path: Path) -> None:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != _APPLICATION:
        raise IndexDamaged(f"{path}: an SQLite file, but not one of documents. Build the index in another folder.")
    if version != FORMAT:
        raise IndexDamaged(
            f"{path}: written in format {version}; this version reads format {FORMAT}. Build the index again."
        )


def length(connection: sqlite3.Connection) -> int:
    """Ordinals have no gaps, so the last one says it without a count."""
    return int(connection.execute("SELECT coalesce(max(ordinal) + 1, 0) FROM documents").fetchone()[0])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns SQLite's complaints into IndexDamaged. (A closed connection is the caller's mistake, and stays one.)"""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter where a text is damaged
        raise IndexDamaged(
            f"{path}: cannot be read, it is damaged ({error}). Copy or build the index again."
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns SQLite's complaints into StorageError, or IndexDamaged where the file itself is at fault."""
    try:
        yield
    except sqlite3.OperationalError as error:
        way_out = _WAY_OUT.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "see whether its disk works and has room")
        raise StorageError(
            f"{path}: cannot be written ({error}): {way_out}. What was finished stays; the same command resumes."
        ) from error
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        raise IndexDamaged(f"{path}: damaged ({error}). Delete it and build again.") from error


_WAY_OUT = {  # by primary result code
    sqlite3.SQLITE_FULL: "the disk is full: free some space, or choose another folder",
    sqlite3.SQLITE_IOERR: "the disk refused: see whether it works and has room, and the process's ulimit -f",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only: choose another folder",
    sqlite3.SQLITE_CANTOPEN: "its folder is missing or not yours to write in: choose another folder",
    sqlite3.SQLITE_BUSY: "another build is writing to it: wait for it, or choose another folder",
}
