"""BM25 over the words of all segments, as one file of all the documents that are left would score them.

SQLite's own ranking knows one file, and counts what was removed: terms are looked up file by file and scored here, by
the formula that FTS5 states (k1 = 1.2, b = 0.75, an idf of 1e-6 at least).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64, Int64

from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.numbering import Numbering

K1, B, LEAST_IDF = 1.2, 0.75, 1e-6


class AllWords:
    """BM25 scores of all documents that are left for a question, from any number of threads."""

    def __init__(self, texts: Sequence[FullText], numbering: Numbering) -> None:
        self._texts = texts
        self._numbering = numbering

    def __len__(self) -> int:
        return len(self._numbering)

    def scores(self, question: str) -> Float32[np.ndarray, " documents"]:
        """By ordinal; 0 for documents that share no term with the question."""
        if self._numbering.plain:
            return self._texts[0].scores(question)
        found = np.zeros(len(self))
        for term, asked in self._texts[0].terms(question).items():
            ordinals, counts = self._having(term)
            idf = np.log((len(self) - len(ordinals) + 0.5) / (len(ordinals) + 0.5))
            found[ordinals] += asked * max(idf, LEAST_IDF) * counts * (K1 + 1) / (counts + self._norms[ordinals])
        return found.astype(np.float32)

    def _having(self, term: str) -> tuple[Int64[np.ndarray, " having"], Int64[np.ndarray, " having"]]:
        """The documents that have the term, and how often."""
        each = [texts.having(term) for texts in self._texts]
        firsts = self._numbering.firsts
        stored = np.concatenate([ordinals + firsts[segment] for segment, (ordinals, _) in enumerate(each)])
        left = self._numbering.left(stored)
        return self._numbering.given(stored[left]), np.concatenate([counts for _, counts in each])[left]

    @cached_property
    def _norms(self) -> Float64[np.ndarray, " documents"]:
        """What a term's count is weighed against: more in a document that is longer than the average."""
        stored = np.concatenate([texts.lengths for texts in self._texts])
        lengths = np.delete(stored, self._numbering.removed).astype(np.float64)
        return K1 * (1 - B + B * lengths / max(lengths.mean(), 1) if len(lengths) else lengths)

    def close(self) -> None:
        for texts in self._texts:
            texts.close()
