"""Tail-patch (Chang et al., 2024, arXiv 2410.17413): does a step on the documents found make the response likelier?

The step goes against the gradient of the documents' mean loss, and has the same length for all methods and queries: a
share of the weights' own norm. So it is the direction that is measured, not how large the found documents' gradients
are, and one setting serves models of any size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from headwater_indexer.evaluation.training import LOSS_BATCH_TOKENS, mean_loss, one_batch, summed_losses
from headwater_indexer.windows import Window

TOP_K = 10  # documents of a step
STEP = 1e-3  # length of a step over the norm of all weights


def tail_patch(model: PreTrainedModel, documents: Sequence[Window], query: Window, *, step: float = STEP) -> float:
    """By how much the response's log-likelihood (in nats, summed over its tokens) grows by one step on `documents`.

    The weights are afterwards what they were, bit for bit; a copy of them is in memory meanwhile.
    """
    before = float(summed_losses(model, [query])[0])
    with stepped(model, documents, step):
        after = float(summed_losses(model, [query])[0])
    return before - after


@contextmanager
def stepped(model: PreTrainedModel, documents: Sequence[Window], step: float) -> Iterator[None]:
    """The model after one step on the documents, for as long as the `with` lasts. Without a gradient it stays."""
    weights = list(model.parameters())
    kept = [weight.detach().clone() for weight in weights]
    asked = [weight.requires_grad for weight in weights]
    try:
        model.requires_grad_(True)
        _accumulate(model, documents)
        _move(weights, step)
        yield
    finally:
        with torch.no_grad():
            for weight, was, wanted in zip(weights, kept, asked, strict=True):
                weight.copy_(was)
                weight.grad = None
                weight.requires_grad_(wanted)


def _accumulate(model: PreTrainedModel, documents: Sequence[Window]) -> None:
    """The gradient of the mean loss over all the documents' tokens, a few documents at a time."""
    targets = sum(window.targets for window in documents)
    at_once = max(1, LOSS_BATCH_TOKENS // max(len(window.input_ids) for window in documents)) if documents else 1
    with torch.enable_grad():
        for start in range(0, len(documents), at_once):
            part = documents[start : start + at_once]
            share = sum(window.targets for window in part) / targets
            (mean_loss(model, one_batch(part).to(model.device)) * share).backward()


def _move(weights: Sequence[torch.nn.Parameter], step: float) -> None:
    """w - step |w| g / |g|, with the norms over all weights together."""
    gradients = [(weight, weight.grad) for weight in weights if weight.grad is not None]
    length = sum(float(grad.double().square().sum()) for _, grad in gradients) ** 0.5
    size = sum(float(weight.detach().double().square().sum()) for weight in weights) ** 0.5
    with torch.no_grad():
        for weight, grad in gradients:
            if length > 0:
                weight.sub_(grad, alpha=step * size / length)
