"""Training as a ground truth repeats it: AdamW on shuffled batches, the same for the same seed; and losses after."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch, batches
from headwater_indexer.errors import HeadwaterError, UsageError
from headwater_indexer.windows import Window

LOSS_BATCH_TOKENS = 8192  # padding included, where losses alone are computed


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained on a set of documents. The commands take options, defaults and help from these fields."""

    epochs: int = _option(4, "Passes over the documents.")
    learning_rate: float = _option(1e-3, "Of AdamW at the beginning; it falls linearly to a tenth.")
    batch_size: int = _option(8, "Windows of documents in a step.")
    weight_decay: float = _option(0.0, "Of AdamW.")

    def __post_init__(self) -> None:
        """Raises UsageError for numbers that nothing can be trained with."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: it must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"--learning-rate {self.learning_rate}: it must be above 0")


def train(
    model: PreTrainedModel,
    windows: Sequence[Window],
    options: TrainingOptions,
    *,
    seed: int,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Trains the model in place on the mean loss of each batch's target tokens. The seed decides the order alone (and
    dropout, where the configuration has any). Raises HeadwaterError when the loss is no longer a number."""
    torch.manual_seed(seed)
    shuffle = np.random.default_rng(seed)
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * math.ceil(len(windows) / options.batch_size)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=steps)
    for _ in range(options.epochs):
        order = shuffle.permutation(len(windows))
        for start in range(0, len(order), options.batch_size):
            chosen = [windows[i] for i in order[start : start + options.batch_size]]
            optimizer.zero_grad(set_to_none=True)
            loss = mean_loss(model, one_batch(chosen).to(model.device))
            if not bool(loss.isfinite()):
                raise HeadwaterError(f"training diverged: the loss is {loss.item()}. Take a lower --learning-rate.")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            decay.step()
            after_step()
    model.eval().requires_grad_(False)


def one_batch(windows: Sequence[Window]) -> Batch:
    """All of the windows, padded to the longest."""
    longest = max(len(window.input_ids) for window in windows)
    (batch,) = batches(windows, longest * len(windows))
    return batch


def summed_losses(model: PreTrainedModel, windows: Sequence[Window]) -> Float64[np.ndarray, " windows"]:
    """Each window's loss: the cross-entropy in nats, summed over its target tokens."""
    losses = np.zeros(len(windows))
    with torch.no_grad():
        for batch in batches(windows, LOSS_BATCH_TOKENS):
            per_token, rows = _token_losses(model, batch.to(model.device))
            summed = torch.zeros(len(batch.order), device=per_token.device).index_add(0, rows, per_token)
            losses[batch.order] = summed.double().cpu().numpy()
    return losses


def mean_loss(model: PreTrainedModel, batch: Batch) -> Float[Tensor, ""]:
    """The cross-entropy in nats, averaged over all target tokens of the batch, as trainers average it."""
    return _token_losses(model, batch)[0].mean()


def _token_losses(model: PreTrainedModel, batch: Batch) -> tuple[Float[Tensor, " targets"], Tensor]:
    """The loss of every target token, and the row that it stands in. (The capture's own loss is for frozen weights.)"""
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    targets = batch.targets[:, 1:]  # token t is predicted at t - 1
    losses = functional.cross_entropy(
        logits[:, :-1][targets].float(), batch.input_ids[:, 1:][targets], reduction="none"
    )
    return losses, targets.nonzero()[:, 0]
