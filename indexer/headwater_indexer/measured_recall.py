"""How many of the documents that exact search finds two-stage search finds too, and how many candidates that takes.

Asked are the second halves of documents spread over the corpus, as responses to their first halves: text like what is
searched, whose gradient is not a row of the index. The document itself is left out. What users ask may lie farther
from every document, and what works against a query may hardly differ from the rest: of such documents more are missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from headwater_indexer.errors import PairError
from headwater_indexer.search import Hit, ScoreKind, Sign
from headwater_indexer.windows import Encoder, Pair

QUERIES = 32
Kind = tuple[ScoreKind, Sign]
LISTS: tuple[Kind, ...] = (
    ("relatif", "positive"),
    ("influence", "positive"),
)
LENGTHS = (10, 100)
WANTED = (0.99, 0.95)  # recall of lists of these lengths at which no more candidates are taken
FEWEST, MOST = 4_096, 65_536  # candidates


class Searching(Protocol):
    def __call__(
        self, queries: Float32[np.ndarray, "queries width"], *, top_k: int, score: ScoreKind, sign: Sign
    ) -> list[list[Hit]]: ...


class Scoring(Searching, Protocol):
    def with_candidates(self, candidates: int) -> Searching: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Recall:
    """The lesser of relatif's and of influence's; the mean over the queries."""

    candidates: int
    at_10: float
    at_100: float
    queries: int

    def __str__(self) -> str:
        return (
            f"{self.candidates:,} candidates find {self.at_10:.1%} of the 10 and {self.at_100:.1%} of the 100 that "
            f"exact search finds, over {self.queries} halves of documents"
        )


def halves(encoder: Encoder, texts: Sequence[tuple[int, str]], wanted: int = QUERIES) -> list[tuple[int, Pair]]:
    """The second half of each text as the response to its first, with the document's ordinal; no more than wanted."""
    found: list[tuple[int, Pair]] = []
    for ordinal, text in texts:
        middle = text.find(" ", len(text) // 2)
        if middle > 0 and len(found) < wanted:
            try:
                found.append((ordinal, encoder.truncated_pair(text[:middle], text[middle:])))
            except PairError:
                continue  # a half without a token
    return found


def measure(
    exact: Searching,
    two_stage: Scoring,
    rows: Float32[np.ndarray, "queries width"],
    own: Sequence[int],
) -> Recall:
    """The fewest candidates, doubled from FEWEST, that find what is wanted; or the most that are tried.

    `own` are the documents that the queries were made of, which count neither way.
    """
    best = {(kind, length): _lists(exact, rows, own, kind, length) for kind in LISTS for length in LENGTHS}
    candidates, most = FEWEST, min(MOST, max(FEWEST, len(two_stage) // 4))
    while True:
        search = two_stage.with_candidates(candidates)
        found = {asked: recall(lists, _lists(search, rows, own, *asked), asked[1]) for asked, lists in best.items()}
        at_10, at_100 = (min(found[kind, length] for kind in LISTS) for length in LENGTHS)
        if (at_10 >= WANTED[0] and at_100 >= WANTED[1]) or 2 * candidates > most:
            return Recall(candidates, round(at_10, 4), round(at_100, 4), len(rows))
        candidates *= 2


Lists = list[list[int]]


def _lists(
    search: Searching, rows: Float32[np.ndarray, "queries width"], own: Sequence[int], kind: Kind, length: int
) -> Lists:
    """The ordinals of the best, less the document that the query was made of."""
    found = search(rows, top_k=length + 1, score=kind[0], sign=kind[1])
    return [
        [hit.ordinal for hit in hits if hit.ordinal != itself][:length] for hits, itself in zip(found, own, strict=True)
    ]


def recall(best: Lists, found: Lists, length: int) -> float:
    """The share of the `length` best that are among as many found, over all queries; 1 where there are none."""
    wanted = [set(own[:length]) for own in best]
    hit = sum(len(own & set(theirs[:length])) for own, theirs in zip(wanted, found, strict=True))
    return hit / total if (total := sum(map(len, wanted))) else 1.0
