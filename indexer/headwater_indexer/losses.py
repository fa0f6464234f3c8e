"""Each window's loss and its backward pass, without ever holding the logits of more than a few tokens.

The derivative of a token's cross-entropy at its logits is their softmax less one at the target, so that a head that
is one matrix gives loss and derivative chunk by chunk, before the rest of the backward pass begins.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch
from headwater_indexer.packed_attention import packed_attention

CHUNK = {"cpu": 512, "cuda": 2048}  # tokens whose logits are held at once: enough that products run at full speed
_plain_heads: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def losses_backward(model: PreTrainedModel, batch: Batch) -> Float[Tensor, " windows"]:
    """Runs the batch forward and backward; returns each window's cross-entropy in nats, summed over its targets."""
    places = batch.targets.flatten().nonzero()[:, 0]  # in the flattened batch; token t is predicted at t - 1
    labels = batch.input_ids.flatten()[places]
    plain = has_plain_head(model)
    with torch.enable_grad(), call_options(model, batch) as options:
        if plain:
            hidden = model.base_model(**options).last_hidden_state
            losses, derivatives = _through_head(model.get_output_embeddings(), hidden.flatten(0, 1)[places - 1], labels)
            if hidden.requires_grad:
                at_hidden = torch.zeros_like(hidden).flatten(0, 1).index_copy(0, places - 1, derivatives)
                hidden.backward(at_hidden.view_as(hidden))
        else:
            logits = model(**options).logits.flatten(0, 1)[places - 1].float()
            losses = functional.cross_entropy(logits, labels, reduction="none")
            if losses.requires_grad:
                losses.sum().backward()
    empty = torch.zeros(len(batch.order), device=losses.device)
    return empty.index_add(0, batch.owners[places], losses.detach())


@contextmanager
def call_options(model: PreTrainedModel, batch: Batch) -> Iterator[dict[str, Any]]:
    options = {**batch.inputs, "use_cache": False}
    if batch.packing is None:
        yield options
    else:
        with packed_attention(model, batch.packing) as more:
            yield {**options, **more}


@torch.no_grad()
def _through_head(
    head: nn.Linear, hidden: Float[Tensor, "targets width"], labels: Int64[Tensor, " targets"]
) -> tuple[Float[Tensor, " targets"], Float[Tensor, "targets width"]]:
    """Losses in float32, and their derivatives at `hidden`."""
    losses = torch.empty(len(labels), device=hidden.device)
    derivatives = torch.empty_like(hidden)
    size = max(1, min(CHUNK.get(hidden.device.type, 512), len(labels)))
    reused = hidden.new_empty(size, head.out_features)  # fresh memory would cost more than what is written to it
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        label = labels[part, None]
        logits = torch.mm(hidden[part], head.weight.T, out=reused[: len(label)])
        if head.bias is not None:
            logits += head.bias
        losses[part], at_logits = _cross_entropy(logits.float(), label)
        torch.mm(at_logits.to(hidden.dtype), head.weight, out=derivatives[part])
    return losses, derivatives


def _cross_entropy(
    logits: Float[Tensor, "tokens vocabulary"], label: Int64[Tensor, "tokens 1"]
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, "tokens vocabulary"]]:
    """log sum exp less the label's logit, and softmax less one at the label, which takes the place of `logits`."""
    at_label = logits.gather(1, label)
    highest = logits.amax(dim=1, keepdim=True)
    powers = logits.sub_(highest).exp_()
    total = powers.sum(dim=1, keepdim=True)
    softmax = powers.div_(total)
    softmax.scatter_add_(1, label, -torch.ones_like(at_label))
    return (total.log() + highest - at_label)[:, 0], softmax


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether the logits are the head's matrix times the last hidden state, and nothing else such as a soft cap."""
    if model not in _plain_heads:
        _plain_heads[model] = _is_plain(model)
    return _plain_heads[model]


def _is_plain(model: PreTrainedModel) -> bool:
    """Runs two tokens, puts numbers far from zero in place of the head's output, and looks whether they come out."""
    head, base = model.get_output_embeddings(), model.base_model
    on_one_device = len(set(getattr(model, "hf_device_map", {}).values())) <= 1
    if type(head) is not nn.Linear or base is model or not head.weight.is_floating_point() or not on_one_device:
        return False
    seen: dict[str, Any] = {}

    def at_base(_: Any, __: Any, output: Any) -> None:
        seen["base"] = getattr(output, "last_hidden_state", None)

    def at_head(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["input"] = inputs[0]
        numbers = torch.linspace(-1000, 1000, output.numel(), device=output.device)
        seen["output"] = replaced = numbers.to(output).view_as(output)
        return replaced

    handles = [base.register_forward_hook(at_base), head.register_forward_hook(at_head)]
    try:
        with torch.no_grad():
            output = model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return bool(
        isinstance(seen.get("base"), Tensor)
        and torch.equal(seen["base"], seen["input"])
        and torch.equal(output.logits.float(), seen["output"].float())
    )
