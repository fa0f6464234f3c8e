"""Which kind of corpus a location is, by its name and what lies in it, and the records of all of its files."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.compressed import SUFFIXES as COMPRESSED
from headwater_indexer.formats.jsonl import read_jsonl
from headwater_indexer.formats.parquet import read_parquet
from headwater_indexer.formats.record import Record
from headwater_indexer.formats.saved import HUB, is_hub_id, read_hub, read_saved
from headwater_indexer.formats.table import read_csv
from headwater_indexer.formats.text import read_text
from headwater_indexer.storage.corpora import RemoteCorpus, visited
from headwater_indexer.storage.remote import is_url

_KINDS = {
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".csv": "CSV",
    ".parquet": "Parquet",
    ".txt": "text",
    ".md": "Markdown",
    ".json": "JSON",
}
_READERS = {"JSON Lines": read_jsonl, "CSV": read_csv, "Parquet": read_parquet}
Here = Callable[[Path], AbstractContextManager[object]]
_SAVED_DATASET = ("dataset_info.json", "dataset_dict.json")
ACCEPTED = (
    "A corpus is a .jsonl, .ndjson or .csv file (also .gz or .zst), a .parquet file, a folder of such files, a folder "
    "of .txt and .md files, a folder written by save_to_disk, a dataset on the Hugging Face hub (hf://owner/name), "
    "or one of the files and folders at a URL (s3://, gs://)"
)


def read_records(location: str, split: str) -> Iterator[Record]:
    """The records of `location`, in the order of the sorted names of its files. Raises CorpusError."""
    path = Path(location)
    if is_url(location):
        return _read_remote(location, split)
    if location.startswith(HUB):
        return read_hub(location, split)
    if location and path.is_dir():
        return _read_folder(path, split)
    if location and path.exists():
        return _read_file(path, path.parent)
    if is_hub_id(location) and not _kind(path):
        return read_hub(location, split)
    raise CorpusError(f"{location or 'the empty name'}: there is no such file or folder. {ACCEPTED}.")


def _read_remote(url: str, split: str) -> Iterator[Record]:
    with visited(url) as corpus:
        try:
            if corpus.whole:
                records = _read_each([corpus.place], corpus.place.parent, corpus.here)
            else:
                records = _read_remote_folder(corpus, split)
            for record in records:
                yield replace(record, place=corpus.at_its_url(record.place))
        except CorpusError as error:
            raise CorpusError(corpus.at_its_url(str(error))) from error


def _read_remote_folder(corpus: RemoteCorpus, split: str) -> Iterator[Record]:
    folder = corpus.place
    if _is_saved(folder):  # memory mapped: all of its files together
        for path in _files(folder):
            corpus.fetch(path)
        return read_saved(folder, split)
    return _read_each(_corpus_files(folder), folder, corpus.here)


def _read_folder(folder: Path, split: str) -> Iterator[Record]:
    return read_saved(folder, split) if _is_saved(folder) else _read_each(_corpus_files(folder), folder, nullcontext)


def _read_each(files: Iterable[Path], root: Path, here: Here) -> Iterator[Record]:
    """The records of each file, which is asked for as `here` before."""
    for path in files:
        with here(path):
            yield from _read_file(path, root)


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED_DATASET)


def _corpus_files(folder: Path) -> Iterator[Path]:
    kind = _kind_of_folder(folder)
    return (path for path in _files(folder) if _kind(path) in kind)


def _kind_of_folder(folder: Path) -> set[str]:
    """One kind of records, or text and Markdown together. Markdown and JSON beside records describe them."""
    kinds = {kind for path in _files(folder) if (kind := _kind(path))}
    records = kinds - {"Markdown", "JSON"}
    if not kinds:
        raise CorpusError(f"{folder}: no file here or below that can be read. {ACCEPTED}.")
    if kinds == {"JSON"}:
        return kinds
    if records <= {"text"}:
        return {"text", "Markdown"}
    if len(records) > 1:
        raise CorpusError(f"{folder}: holds {' and '.join(sorted(records))} files. Give one folder for each kind.")
    return records


def _files(folder: Path) -> Iterator[Path]:
    """All files below in a stable order, hidden ones left out; one folder's names are held at a time."""
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _unreadable(error: OSError) -> None:
    raise CorpusError(f"{error.filename}: the folder cannot be read ({error.strerror}).") from error


def _read_file(path: Path, root: Path) -> Iterator[Record]:
    kind = _kind(path)
    if kind in ("text", "Markdown"):
        return iter([read_text(path, root)])
    if kind in _READERS:
        return _READERS[kind](path, _plain(path).relative_to(root).with_suffix("").as_posix())
    if kind == "JSON":
        raise CorpusError(
            f"{path}: a .json file is one value and cannot be read as a stream. Write JSON Lines, one object a line, "
            f"for example with `jq -c '.[]' {path.name} > {path.stem}.jsonl`."
        )
    raise CorpusError(f"{path}: of no kind that can be read. {ACCEPTED}.")


def _kind(path: Path) -> str | None:
    """What the name says, or nothing."""
    plain = _plain(path)
    compressible = plain == path or plain.suffix.lower() != ".parquet"
    return _KINDS.get(plain.suffix.lower()) if compressible else None


def _plain(path: Path) -> Path:
    """The path without .gz or .zst."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
