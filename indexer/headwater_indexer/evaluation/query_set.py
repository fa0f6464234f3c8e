"""Queries made from a corpus: held-out documents, and quotes of training documents, cut into prompt and response."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwater_indexer.corpus import Document
from headwater_indexer.errors import UsageError
from headwater_indexer.scores import Query

PROMPT_SHARE = 1 / 3  # of a text's characters, to the next space
SHORTEST = 40  # characters of a document that a query is made from
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class QuerySet:
    """The documents that are left to train on, and the queries."""

    documents: list[Document]
    queries: list[Query]


def make_queries(documents: Sequence[Document], *, held_out: int, quotes: int, seed: int) -> QuerySet:
    """`held_out` documents are taken from the corpus and never trained on; `quotes` stay and are asked for word for
    word. No two neighbours are held out, so that a document split over several records leaves its rest behind.

    Raises UsageError when the corpus has not enough documents that can be cut.
    """
    draw = np.random.default_rng(seed)
    usable = [place for place, document in enumerate(documents) if _cut(document) is not None]
    held = _apart(draw.permutation(usable).tolist(), held_out)
    rest = [place for place in usable if place not in set(held)]
    if len(held) < held_out or len(rest) < quotes:
        raise UsageError(
            f"the corpus has {len(documents)} documents, {len(usable)} of them of {SHORTEST} characters or more in "
            f"several words: too few for --held-out {held_out} and --quotes {quotes}"
        )
    quoted = draw.choice(rest, size=quotes, replace=False).tolist() if quotes else []
    queries = [_query(f"held-{n:03d}", documents[place], None) for n, place in enumerate(sorted(held))]
    queries += [
        _query(f"quote-{n:03d}", documents[place], documents[place].id) for n, place in enumerate(sorted(quoted))
    ]
    kept = [document for place, document in enumerate(documents) if place not in set(held)]
    return QuerySet(documents=kept, queries=queries)


def _apart(places: Sequence[int], count: int) -> list[int]:
    chosen: list[int] = []
    for place in places:
        if len(chosen) < count and not {place - 1, place + 1} & set(chosen):
            chosen.append(place)
    return chosen


def _query(query_id: str, document: Document, source_id: str | None) -> Query:
    cut = _cut(document)
    assert cut is not None  # noqa: S101 - chosen among those that can be cut
    return Query(id=query_id, prompt=cut[0], response=cut[1], source_id=source_id)


def _cut(document: Document) -> tuple[str, str] | None:
    """A pair is asked as it is; a text is cut after a space, a third of the way."""
    if document.prompt:
        return document.prompt, document.text
    if len(document.text) < SHORTEST:
        return None
    space = _SPACE.search(document.text, int(len(document.text) * PROMPT_SHARE))
    if space is None or not document.text[space.end() :].strip():
        return None
    return document.text[: space.end()], document.text[space.end() :]
