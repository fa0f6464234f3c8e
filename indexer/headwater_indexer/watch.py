"""Hooks that see the two factors of every watched layer's gradient, and a backward pass that computes nothing else.

All weights are frozen and only the first watched layers' outputs ask for gradients, so that the backward pass forms
the derivatives of activations alone (about 4 of the 6 units of work of a training step, the limit of gradient capture)
and goes no deeper than it must.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch
from headwater_indexer.errors import ModelError
from headwater_indexer.layers import Layer
from headwater_indexer.losses import losses_backward

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
    handles: list[RemovableHandle] = []

    def hook(layer: Layer) -> Callable[[nn.Module, Any, Tensor], None]:
        def forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not torch.is_grad_enabled():
                return  # no backward pass follows
            with torch.no_grad():
                kept = on_input(layer.name, _with_batch(inputs[0].detach(), layer))

            def backward(grad: Tensor) -> None:
                seen.add(layer.name)
                with torch.no_grad():
                    on_output_grad(layer.name, kept, _with_batch(grad, layer))

            output.requires_grad_(True)  # where nothing before it does, the backward pass ends here
            output.register_hook(backward)

        return forward

    def run(batch: Batch) -> Float[Tensor, " batch"]:
        seen.clear()
        losses = losses_backward(model, batch)
        if missing := [layer.name for layer in layers if layer.name not in seen]:
            raise ModelError(
                f"layer {missing[0]} took no part in the loss, so it has no gradient to watch "
                f"({len(missing)} of {len(layers)} such). Leave it out with --layers."
            )
        return losses

    try:
        handles += [modules[layer.name].register_forward_hook(hook(layer)) for layer in layers]
        yield run
    finally:
        for handle in handles:
            handle.remove()


def _with_batch(tensor: Tensor, layer: Layer) -> Tensor:
    if tensor.dim() != 3:
        raise ModelError(
            f"layer {layer.name} works on tensors of shape {tuple(tensor.shape)}, not [batch, time, width]: it cannot "
            "be watched yet. Leave it out with --layers."
        )
    return tensor
