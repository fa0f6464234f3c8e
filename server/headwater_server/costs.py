"""What slow work costs, in tokens that a batch of questions would have: Retry-After is reckoned by them."""

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater_indexer.index import Index, Pair

SAMPLE_TOKENS = 32_768  # that one step of refinement sees, or all that the index has
STEP = 1.0  # of a token of the sample, in one step for one gradient; measured 0.7 to 1.2


def of_rescoring(index: "Index", pair: "Pair", documents: int, refine: int) -> int:
    """The pair and each document once forward and backward, and the steps of the pair's gradient."""
    return _whole(len(pair.input_ids) + documents * _a_document(index) + _refining(index, refine))


def of_explaining(index: "Index", pair: "Pair", documents: int, refine: int) -> int:
    """For each document twice its tokens, the pair up to each counted token of the response, and the steps again."""
    counted = pair.counted_tokens
    targets = counted * (len(pair.input_ids) - counted / 2)
    each = 2 * _a_document(index) + targets + _refining(index, refine)
    return _whole(len(pair.input_ids) + documents * each + _refining(index, refine))


def _refining(index: "Index", refine: int) -> float:
    """The first step gives what there is without any, so that there is one more."""
    sample = min(SAMPLE_TOKENS, index.manifest.tokens)
    return STEP * sample * (refine + 1) if refine else 0.0


def _a_document(index: "Index") -> float:
    """Without projections a token costs less, measured 0.65; its documents have to be read and cut besides."""
    return index.manifest.tokens / max(1, index.manifest.documents)


def _whole(tokens: float) -> int:
    return max(1, ceil(tokens))
