"""Hugging Face datasets: saved to disk (memory mapped), or streamed from the hub."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.record import Record, needed

HUB = "hf://"
_HUB_ID = re.compile(r"(?P<name>\w[\w.-]*(/\w[\w.-]*)?)(:(?P<config>[\w.-]+))?", re.ASCII)


def is_hub_id(location: str) -> bool:
    """Whether this looks like `name`, `owner/name`, or either with `:config`."""
    return _HUB_ID.fullmatch(location.removeprefix(HUB)) is not None


def read_saved(folder: Path, split: str) -> Iterator[Record]:
    """The rows of a dataset written by `save_to_disk`, of one split where it has several."""
    datasets = needed("datasets", f"{folder}: reading a Hugging Face dataset")
    with _loading(datasets, f"{folder}: "):
        loaded = datasets.load_from_disk(str(folder))
        if isinstance(loaded, datasets.DatasetDict):
            if split not in loaded:
                raise CorpusError(f"{folder}: no split {split!r}. It has {_listed(loaded)}: name one with --split.")
            loaded = loaded[split]
        yield from _records(loaded, str(folder), folder.resolve().name)


def read_hub(location: str, split: str) -> Iterator[Record]:
    """The rows of a dataset on the Hugging Face hub, as they arrive."""
    datasets = needed("datasets", f"{location}: reading from the Hugging Face hub")
    found = _HUB_ID.fullmatch(location.removeprefix(HUB))
    if found is None:
        raise CorpusError(f"{location}: not a dataset on the hub. Write hf://owner/name or hf://owner/name:config.")
    here = "" if location.startswith(HUB) else "no file or folder here, and "
    with _loading(datasets, f"{location}: {here}"):
        loaded = datasets.load_dataset(found["name"], found["config"], split=split, streaming=True)
        yield from _records(loaded, location, found["name"])


def _records(rows: Iterable[Mapping[str, object]], place: str, stem: str) -> Iterator[Record]:
    for number, values in enumerate(rows, start=1):
        yield Record(place=f"{place}: row {number}", given_id=f"{stem}:{number}", values=values)


@contextmanager
def _loading(datasets: Any, opening: str) -> Iterator[None]:
    """`datasets` has many kinds of errors for a missing name, split or config, a broken file, a lost connection."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise CorpusError(f"{opening}cannot be read as a Hugging Face dataset ({_first_line(error)}).") from error


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
