"""Hooks that see the two factors of every watched layer's gradient, and a backward pass that computes nothing else.

All weights are frozen and only the first watched layers' outputs ask for gradients, so that the backward pass forms
the derivatives of activations alone (about 4 of the 6 units of work of a training step, the limit of gradient capture)
and goes no deeper than it must.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch
from headwater_indexer.errors import ModelError
from headwater_indexer.experts import OnRouted, watching_experts
from headwater_indexer.layers import Layer
from headwater_indexer.losses import losses_backward
from headwater_indexer.recomputing import is_recomputing

# Called in the forward pass with a layer's name and input; what it returns is kept for the backward pass.
OnInput = Callable[[str, Float[Tensor, "batch time in_dim"]], Tensor]
# Called in the backward pass with the layer's name, what was kept, and the loss derivative at the layer's output.
OnOutputGrad = Callable[[str, Tensor, Float[Tensor, "batch time out_dim"]], None]
# An expert that is a module of its own is given some of the tokens, in an order that it alone knows.
_ONE_OF_A_LIST = re.compile(r"experts\.\d+\.")


@contextmanager
def watching(
    model: PreTrainedModel, layers: Sequence[Layer], on_input: OnInput, on_output_grad: OnOutputGrad
) -> Iterator[Callable[[Batch], Float[Tensor, " batch"]]]:
    """Gives a function that runs a batch forward and backward through the hooks and returns each row's loss.

    The functions are given tensors on the model's first device, wherever a layer lies, and for an expert among many
    all tokens of the batch, with zeros for those that are not routed to it. The hooks are gone afterwards, even if the
    body raises. Raises ModelError for a layer that yields nothing.
    """
    seen: set[str] = set()
    device = model.device
    modules = dict(model.named_modules())
    plain = [layer for layer in layers if layer.name in modules]
    handles: list[RemovableHandle] = []
    shape = (0, 0)  # [batch, time] of the tokens that are running

    def see(layer: Layer, inputs: Tensor, output: Tensor, in_batch: Callable[[Tensor], Tensor]) -> None:
        if not torch.is_grad_enabled():
            return  # no backward pass follows
        if is_recomputing():
            output.requires_grad_(True)  # as in the first forward pass, whose hooks are called with the gradients
            return
        with torch.no_grad():
            kept = on_input(layer.name, in_batch(inputs.detach()).to(device))

        def backward(grad: Tensor) -> None:
            seen.add(layer.name)
            with torch.no_grad():
                on_output_grad(layer.name, kept, in_batch(grad).to(device))

        output.requires_grad_(True)  # where nothing before it does, the backward pass ends here
        output.register_hook(backward)

    def hook(layer: Layer) -> Callable[[nn.Module, Any, Tensor], None]:
        def forward(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            see(layer, inputs[0], output, lambda tensor: _with_batch(tensor, layer, shape))

        return forward

    def routed_hook(layer: Layer) -> OnRouted:
        def forward(inputs: Tensor, output: Tensor, tokens: Tensor) -> None:
            see(layer, inputs, output, lambda tensor: _among_all(tensor, tokens, shape))

        return forward

    def run(batch: Batch) -> Float[Tensor, " batch"]:
        nonlocal shape
        seen.clear()
        shape = (batch.input_ids.shape[0], batch.input_ids.shape[1])
        losses = losses_backward(model, batch)
        # An expert may well get no token of a batch.
        if missing := [layer.name for layer in plain if layer.name not in seen]:
            raise ModelError(
                f"layer {missing[0]} took no part in the loss, so it has no gradient to watch "
                f"({len(missing)} of {len(layers)} such). Leave it out with --layers."
            )
        return losses

    routed = {layer.name: routed_hook(layer) for layer in layers if layer.name not in modules}
    try:
        handles += [modules[layer.name].register_forward_hook(hook(layer)) for layer in plain]
        with watching_experts(model, routed):
            yield run
    finally:
        for handle in handles:
            handle.remove()


def _with_batch(tensor: Tensor, layer: Layer, shape: tuple[int, int]) -> Float[Tensor, "batch time width"]:
    """The tensor as the batch has it; some modules flatten the batch before their layers."""
    if tensor.shape[:-1] == shape:
        return tensor
    if tensor.dim() == 2 and len(tensor) == shape[0] * shape[1] and not _ONE_OF_A_LIST.search(layer.name):
        return tensor.reshape(*shape, -1)
    if tensor.dim() > 2 and [n for n in tensor.shape[:-1] if n > 1] == [n for n in shape if n > 1]:
        return tensor.reshape(
            *shape, -1
        )  # as [batch, 1, time, width], where a layer's output is the same for all heads
    raise ModelError(
        f"layer {layer.name} works on tensors of shape {tuple(tensor.shape)}, not [batch, time, width]: it cannot "
        "be watched yet. Leave it out with --layers."
    )


def _among_all(tensor: Tensor, tokens: Int64[Tensor, " routed"], shape: tuple[int, int]) -> Tensor:
    """[routed, width] to [batch, time, width], zeros for the tokens that are routed elsewhere."""
    everything = tensor.new_zeros(shape[0] * shape[1], tensor.shape[-1])
    return everything.index_copy(0, tokens, tensor).view(*shape, -1)
