"""A record: what one line, row or file of a corpus holds, before it is known to be a document."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from headwater_indexer.errors import MissingPackage


@dataclass(frozen=True, kw_only=True)
class Record:
    """`place` is for messages ("corpus.jsonl:12"); `given_id` ("corpus:12") serves where the corpus has no ids."""

    place: str
    given_id: str
    values: Mapping[str, object]


def needed(module: str, purpose: str) -> ModuleType:
    """An optional module, imported when a corpus needs it. Raises MissingPackage with what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"{purpose} needs the package {module.partition('.')[0]} ({error}): run `pip install 'headwater[datasets]'`"
        ) from error
