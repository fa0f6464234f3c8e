"""CSV with a header row: every value is a string, and a record may go over several lines."""

import csv
from collections.abc import Iterator
from pathlib import Path

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.lines import LONGEST, read_lines
from headwater_indexer.formats.record import Record


def read_csv(path: Path, stem: str) -> Iterator[Record]:
    """A record for each row under the header; a record is named by the line that it starts on."""
    rows = _rows(path)
    header = next(rows, (1, []))[1]
    if not header:
        return
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise CorpusError(f"{path}:1: two columns have the name {repeated[0]!r}. Give each column a name of its own.")
    for line, row in rows:
        if len(row) != len(header):
            raise CorpusError(
                f"{path}:{line}: {len(row)} values under {len(header)} columns. "
                "A value with a comma, quote or line end must stand in double quotes."
            )
        yield Record(place=f"{path}:{line}", given_id=f"{stem}:{line}", values=dict(zip(header, row, strict=True)))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the line that it starts on."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # the module's own limit is 128 KiB, for all readers
    reader = csv.reader(read_lines(path), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise CorpusError(
                f"{path}:{line}: not valid CSV ({error}). Look for a double quote that is not closed or not doubled."
            ) from error
        if row is None:
            return
        if row:
            yield line, row
