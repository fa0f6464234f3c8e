"""Which tokens an influence is made of, on the document's side and on the response's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from headwater_indexer.corpus import Document
from headwater_indexer.ekfac.factors import Gradients
from headwater_indexer.ekfac.pieces import TokenInfluence, with_pieces
from headwater_indexer.ekfac.refining import Steps
from headwater_indexer.ekfac.rescoring import Rescorer
from headwater_indexer.windows import Pair, Window


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A document's influence on a response, split over the tokens of either side; each side sums to the score.

    `document`: a token has what the position before it, which predicts it, adds to the document's gradient:
    d_t^T M x_t summed over layers, M being the response's preconditioned gradient. The first token of the document is
    predicted from nothing and has none.
    `response`: a token has the influence of the document on that very token's log-likelihood.
    """

    ordinal: int
    score: float
    document: tuple[TokenInfluence, ...]
    response: tuple[TokenInfluence, ...]


def explain(rescorer: Rescorer, pair: Pair, ordinals: Sequence[int], *, refine: int = 0) -> list[Explanation]:
    """One explanation for each document. Costs, for each, two forward and backward passes of its own tokens and one of
    the pair for each token of the response."""
    direction, steps = rescorer.directions([pair.window], refine=refine)
    return [_explain_one(rescorer, pair, ordinal, direction, steps) for ordinal in ordinals]


def _explain_one(rescorer: Rescorer, pair: Pair, ordinal: int, direction: Gradients, steps: Steps) -> Explanation:
    tokenizer = rescorer.checkpoint.tokenizer
    windows, owners = rescorer.windows_of([ordinal])
    if not windows:  # a document of one token: nothing in it is predicted
        return Explanation(ordinal=ordinal, score=0.0, document=(), response=())
    by_position = rescorer.by_position(direction, windows)
    exchanged = rescorer.exchanged(windows, owners, steps)
    by_target = rescorer.influences(exchanged, one_target_each(pair))[0]
    (document,) = rescorer.documents.by_ordinal([ordinal])
    return Explanation(
        ordinal=ordinal,
        score=float(sum(values.sum(dtype=np.float64) for values in by_position)),
        document=_document_tokens(tokenizer, document, windows, by_position),
        response=_response_tokens(tokenizer, pair, by_target),
    )


def one_target_each(pair: Pair) -> list[Window]:
    """The pair up to each token of its response that is predicted, with the loss on that token alone."""
    whole = pair.window
    return [
        Window(input_ids=whole.input_ids[: target + 1], first_target=int(target))
        for target in np.flatnonzero(whole.is_target)
    ]


def _document_tokens(
    tokenizer: PreTrainedTokenizerBase,
    document: Document,
    windows: Sequence[Window],
    by_position: Sequence[Float[np.ndarray, " time"]],
) -> tuple[TokenInfluence, ...]:
    """A window begins with the last token of the one before it, so that each position but a window's last, which
    predicts nothing, belongs to the token after it."""
    ids = [int(windows[0].input_ids[0])]
    influences = [0.0]
    for window, values in zip(windows, by_position, strict=True):
        ids += window.input_ids[1:].tolist()
        influences += values[:-1].tolist()
    begin = windows[0].first_target if document.prompt else 0
    return with_pieces(tokenizer, document.text, ids, np.asarray(influences), begin=begin)


def _response_tokens(
    tokenizer: PreTrainedTokenizerBase, pair: Pair, by_target: Float[np.ndarray, " targets"]
) -> tuple[TokenInfluence, ...]:
    """All tokens of the response. One that does not count has none: outside the span, or with nothing before it."""
    ids = list(pair.input_ids[pair.prompt_tokens :])
    influences = np.zeros(len(ids))
    influences[np.flatnonzero(pair.window.is_target) - pair.prompt_tokens] = by_target
    return with_pieces(tokenizer, str(tokenizer.decode(ids)), ids, influences)
