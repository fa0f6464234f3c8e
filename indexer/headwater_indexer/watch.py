"""Hooks that see the two factors of every watched layer's gradient, and a backward pass that computes nothing else.

All weights are frozen and only the first watched layers' outputs ask for gradients, so that the backward pass forms
the derivatives of activations alone (about 4 of the 6 units of work of a training step, the limit of gradient capture)
and goes no deeper than it must.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Routed:
    """The tokens of a batch that one expert of many is given."""

    tokens: Int64[Tensor, " routed"]  # their places in the flattened batch
    shape: tuple[int, int]  # [batch, time]

    def among_all(self, tensor: Float[Tensor, "routed width"]) -> Float[Tensor, "batch time width"]:
        """Zeros for the tokens that are routed elsewhere."""
        batch, time = self.shape
        everything = tensor.new_zeros(batch * time, tensor.shape[-1])
        return everything.index_copy(0, self.tokens, tensor).view(batch, time, -1)


# Called in the forward pass with a layer's name and input; what it returns is kept for the backward pass.
OnInput = Callable[[str, Float[Tensor, "batch time in_dim"]], Tensor]
# Called in the backward pass with the layer's name, what was kept, and the loss derivative at the layer's output.
OnOutputGrad = Callable[[str, Tensor, Float[Tensor, "batch time out_dim"]], None]
# The same, with the routed tokens alone, [routed, width], where the layer is one of many experts.
OnRoutedInput = Callable[[str, Tensor, Routed | None], Tensor]
OnRoutedOutputGrad = Callable[[str, Tensor, Tensor, Routed | None], None]
Run = Callable[[Batch], Float[Tensor, " batch"]]
# An expert that is a module of its own is given some of the tokens, in an order that it alone knows.
_ONE_OF_A_LIST = re.compile(r"experts\.\d+\.")


def watching(
    model: PreTrainedModel, layers: Sequence[Layer], on_input: OnInput, on_output_grad: OnOutputGrad
) -> AbstractContextManager[Run]:
    """As `watching_routed`, but an expert of many is shown with all tokens of the batch, and zeros for those that are
    not routed to it."""

    def all_inputs(name: str, inputs: Tensor, routed: Routed | None) -> Tensor:
        return on_input(name, inputs if routed is None else routed.among_all(inputs))

    def all_grads(name: str, kept: Tensor, grad: Tensor, routed: Routed | None) -> None:
        on_output_grad(name, kept, grad if routed is None else routed.among_all(grad))

    return watching_routed(model, layers, all_inputs, all_grads)


@contextmanager
def watching_routed(
    model: PreTrainedModel, layers: Sequence[Layer], on_input: OnRoutedInput, on_output_grad: OnRoutedOutputGrad
) -> Iterator[Run]:
    """Gives a function that runs a batch forward and backward through the hooks and returns each row's loss.

    The hooks are given tensors on the model's first device, wherever a layer lies, and are gone afterwards, even if
    the body raises. Raises ModelError for a layer that yields nothing.
    """
    seen: set[str] = set()
    device = model.device
    modules = dict(model.named_modules())
    plain = [layer for layer in layers if layer.name in modules]
    handles: list[RemovableHandle] = []
    shape = (0, 0)  # [batch, time] of the tokens that are running

    def see(layer: Layer, inputs: Tensor, output: Tensor, routed: Routed | None = None) -> None:
        if not torch.is_grad_enabled():
            return  # no backward pass follows
        if is_recomputing():
            output.requires_grad_(True)  # as in the first forward pass, whose hooks are called with the gradients
            return
        batch_shape = shape if routed is None else None
        with torch.no_grad():
            kept = on_input(layer.name, _with_batch(inputs.detach(), layer, batch_shape).to(device), routed)

        def backward(grad: Tensor) -> None:
            seen.add(layer.name)
            with torch.no_grad():
                on_output_grad(layer.name, kept, _with_batch(grad, layer, batch_shape).to(device), routed)

        output.requires_grad_(True)  # where nothing before it does, the backward pass ends here
        output.register_hook(backward)

    def hook(layer: Layer) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, inputs, output: see(layer, inputs[0], output)

    def routed_hook(layer: Layer) -> OnRouted:
        return lambda inputs, output, tokens: see(layer, inputs, output, Routed(tokens=tokens.to(device), shape=shape))

    def run(batch: Batch) -> Float[Tensor, " batch"]:
        nonlocal shape
        seen.clear()
        shape = (batch.input_ids.shape[0], batch.input_ids.shape[1])
        try:
            losses = losses_backward(model, batch)
        except RuntimeError as error:
            if "in-place" not in str(error) and "inplace" not in str(error):
                raise
            raise ModelError(
                f"this {type(model).__name__} alters the output of a watched layer in place, so that its gradient "
                f"cannot be seen ({str(error).splitlines()[0]}). Choose other layers with --layers."
            ) from error
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


def _with_batch(tensor: Tensor, layer: Layer, shape: tuple[int, int] | None) -> Tensor:
    """[batch, time, width] as the batch has it; some modules flatten the batch before their layers. Without a shape,
    as it is."""
    leading = list(tensor.shape[:-1])
    if shape is None or leading == list(shape):
        return tensor
    flat = leading == [shape[0] * shape[1]] and not _ONE_OF_A_LIST.search(layer.name)
    # As [batch, 1, time, width], where a layer's output is the same for all heads.
    with_ones = len(leading) > 1 and [n for n in leading if n > 1] == [n for n in shape if n > 1]
    if flat or with_ones:
        return tensor.reshape(*shape, -1)
    raise ModelError(
        f"layer {layer.name} works on tensors of shape {tuple(tensor.shape)}, not [batch, time, width]: it cannot "
        "be watched yet. Leave it out with --layers."
    )
