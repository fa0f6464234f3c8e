"""Hooks that see the two factors of every watched layer's gradient, and a backward pass that computes nothing else.

All weights are frozen and only the embeddings' output asks for gradients, so that the backward pass forms the
derivatives of activations alone: about 4 of the 6 units of work of a training step, the limit of gradient capture.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch
from headwater_indexer.errors import ModelError
from headwater_indexer.layers import Layer

# Called in the forward pass with a layer's name and input; what it returns is kept for the backward pass.
OnInput = Callable[[str, Float[Tensor, "batch time in_dim"]], Tensor]
# Called in the backward pass with the layer's name, what was kept, and the loss derivative at the layer's output.
OnOutputGrad = Callable[[str, Tensor, Float[Tensor, "batch time out_dim"]], None]


@contextmanager
def watching(
    model: PreTrainedModel, layers: Sequence[Layer], on_input: OnInput, on_output_grad: OnOutputGrad
) -> Iterator[Callable[[Batch], Float[Tensor, " batch"]]]:
    """Gives a function that runs a batch forward and backward through the hooks and returns each row's loss.

    The hooks are gone afterwards, even if the body raises. Raises ModelError for a layer that yields nothing.
    """
    seen: set[str] = set()
    modules = dict(model.named_modules())
    handles = [model.get_input_embeddings().register_forward_hook(_ask_for_gradients)]

    def hook(layer: Layer) -> Callable[[nn.Module, Any, Tensor], None]:
        def forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            with torch.no_grad():
                kept = on_input(layer.name, _with_batch(inputs[0].detach(), layer))

            def backward(grad: Tensor) -> None:
                seen.add(layer.name)
                with torch.no_grad():
                    on_output_grad(layer.name, kept, _with_batch(grad, layer))

            if output.requires_grad:
                output.register_hook(backward)

        return forward

    def run(batch: Batch) -> Float[Tensor, " batch"]:
        seen.clear()
        with torch.enable_grad():
            losses = sequence_losses(model, batch)
            losses.sum().backward()
        if missing := [layer.name for layer in layers if layer.name not in seen]:
            raise ModelError(
                f"layer {missing[0]} took no part in the loss, so it has no gradient to watch "
                f"({len(missing)} of {len(layers)} such). Leave it out with --layers."
            )
        return losses.detach()

    try:
        handles += [modules[layer.name].register_forward_hook(hook(layer)) for layer in layers]
        yield run
    finally:
        for handle in handles:
            handle.remove()


def sequence_losses(model: PreTrainedModel, batch: Batch) -> Float[Tensor, " batch"]:
    """Each row's loss: the cross-entropy in nats, summed (not averaged) over its target tokens."""
    output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    targets = batch.targets[:, 1:]  # token t is predicted at t - 1
    rows = targets.nonzero()[:, 0]
    losses = functional.cross_entropy(
        output.logits[:, :-1][targets].float(), batch.input_ids[:, 1:][targets], reduction="none"
    )
    return torch.zeros(len(batch.input_ids), device=losses.device).index_add(0, rows, losses)


def _ask_for_gradients(_: nn.Module, __: Any, output: Tensor) -> Tensor:
    return output.requires_grad_(True)


def _with_batch(tensor: Tensor, layer: Layer) -> Tensor:
    if tensor.dim() != 3:
        raise ModelError(
            f"layer {layer.name} works on tensors of shape {tuple(tensor.shape)}, not [batch, time, width]: it cannot "
            "be watched yet. Leave it out with --layers."
        )
    return tensor
