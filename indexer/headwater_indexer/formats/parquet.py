"""Parquet files, a few rows at a time."""

from collections.abc import Iterator
from pathlib import Path

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.record import Record, needed

_ROWS = 64  # in memory at once, so that long documents do not add up


def read_parquet(path: Path, stem: str) -> Iterator[Record]:
    """A record for each row; rows count from 1."""
    pyarrow = needed("pyarrow", f"{path}: reading Parquet")
    parquet = needed("pyarrow.parquet", f"{path}: reading Parquet")
    number = 0
    try:
        with parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
            _check_columns(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(place=f"{path}: row {number}", given_id=f"{stem}:{number}", values=values)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(
            f"{path}: not a whole Parquet file, or one that cannot be read after row {number} ({reason}). "
            "Copy or write it again."
        ) from error


def _check_columns(path: Path, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise CorpusError(f"{path}: two columns have the name {repeated[0]!r}. Give each column a name of its own.")
