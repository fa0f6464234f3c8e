"""The baselines' scores of all documents for all questions, straight from a corpus: no index is needed."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from headwater_indexer.baselines.all_words import AllWords
from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.baselines.hidden_states import HiddenStates, cosines
from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.corpus import Document
from headwater_indexer.windows import Encoder, LongDocuments

BaselineKind = Literal["bm25", "hidden-states"]
Question = tuple[str, str]  # prompt, response
Scores = Float32[np.ndarray, "questions documents"]

# Of BM25 beside influence, both in standard deviations over the documents. Measured on two corpora: 0.702 -> 0.720 and
# 0.748 -> 0.775 LDS; 0.1 to 0.5 all help, 1 does not.
BM25_WEIGHT = 0.25


def bm25_scores(texts: FullText | AllWords, questions: Sequence[Question]) -> Scores:
    """By all terms of prompt and response."""
    return np.stack([texts.scores(f"{prompt} {response}") for prompt, response in questions])


def hidden_state_scores(
    checkpoint: Checkpoint,
    encoder: Encoder,
    documents: Iterable[Document],
    questions: Sequence[Question],
    *,
    long: LongDocuments,
) -> Scores:
    states = HiddenStates(checkpoint)
    blocks = list(states.blocks(encoder.document(document, long=long) for document in documents))
    return cosines(question_states(states, encoder, questions), np.concatenate(blocks))


def question_states(
    states: HiddenStates, encoder: Encoder, questions: Sequence[Question]
) -> Float32[np.ndarray, "questions width"]:
    """Of prompt and response together; what is too long loses its end."""
    return states([[encoder.truncated_pair(prompt, response).window] for prompt, response in questions])


def hybrid_scores(influence: Float[np.ndarray, "questions documents"], bm25: Scores) -> Scores:
    """Influence and BM25, each in standard deviations from its mean over the documents, with BM25_WEIGHT."""
    return (_standardised(influence) + BM25_WEIGHT * _standardised(bm25)).astype(np.float32)


def _standardised(scores: Float[np.ndarray, "questions documents"]) -> Float[np.ndarray, "questions documents"]:
    spread = scores.std(axis=1, keepdims=True)
    return np.asarray((scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1))
