"""Products with the Gauss-Newton matrix G = sum over windows of J^T H J, for many directions at once.

J leads from the weights of the watched layers to the logits, H is the cross-entropy's curvature there: diag(p) - p p^T
of each predicted token. For a direction V [out_dim, in_dim] the change of a layer's output is V x_t, so J V is how the
hidden states answer to those changes. A backward pass is linear in what it begins with; its transpose is J, which
autograd gives as the derivative of the backward pass by its beginning (the "double-backward trick"). So one forward
and one backward pass serve all directions, and each direction adds two passes backward, the way there and the way
back: about two forward passes' time, exact in any number format, where central differences take two forward passes
and one backward, and are exact in none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch, batches, packs
from headwater_indexer.ekfac.factors import Gradients
from headwater_indexer.errors import ConfigurationError
from headwater_indexer.layers import Layer
from headwater_indexer.losses import call_options, has_plain_head
from headwater_indexer.packed_attention import can_pack
from headwater_indexer.pausing import pause
from headwater_indexer.recomputing import keeping_activations
from headwater_indexer.windows import Window

HEAD_TOKENS = 512  # whose logits are in memory at once


@dataclass(frozen=True)
class _Graph:
    """A forward pass: each use of a layer with its inputs and outputs, and what the head sees of the tokens that
    predict. For a head that is one matrix `top` are hidden states, else logits."""

    names: list[str]
    inputs: list[Float[Tensor, "tokens in_dim"]]
    outputs: list[Tensor]
    top: Float[Tensor, "targets width"]


class GaussNewton:
    """The matrix of a sample of windows, divided by their number, on the watched layers of a model."""

    def __init__(
        self, model: PreTrainedModel, layers: Sequence[Layer], windows: Sequence[Window], *, batch_tokens: int
    ) -> None:
        """Raises ConfigurationError for layers that are no modules of their own, such as fused experts."""
        modules = dict(model.named_modules())
        if fused := [layer.name for layer in layers if layer.name not in modules]:
            raise ConfigurationError(
                f"layer {fused[0]} is one of several experts in one tensor: scores cannot be refined past EK-FAC there"
            )
        self._model = model
        self._modules = {layer.name: modules[layer.name] for layer in layers}
        self._windows = windows
        self._batch_tokens = batch_tokens

    def __call__(self, directions: Mapping[str, Tensor]) -> Gradients:
        """G V for each direction V: [directions, out_dim, in_dim] for each layer."""
        products = {name: torch.zeros_like(direction) for name, direction in directions.items()}
        for graph in self._graphs():
            for number, seed in enumerate(self._curved(graph, _changes(graph, directions))):
                derivatives = _backward(graph, seed)
                for name, x, d in zip(graph.names, graph.inputs, derivatives, strict=True):
                    products[name][number] += (d.flatten(0, -2).float().T @ x.float()).to(products[name].device)
        return {name: product / len(self._windows) for name, product in products.items()}

    def curvatures(self, directions: Mapping[str, Tensor]) -> Float[Tensor, " directions"]:
        """V^T G V for each direction V, without the way back."""
        count = len(next(iter(directions.values())))
        found = torch.zeros(count, device=self._model.device)
        for graph in self._graphs():
            changes = _changes(graph, directions)
            for number, (change, seed) in enumerate(zip(changes, self._curved(graph, changes), strict=True)):
                found[number] += (change.float() * seed.float()).sum()
        return found / len(self._windows)

    def _graphs(self) -> Iterator[_Graph]:
        cut = packs if can_pack(self._model) else batches
        for batch in cut(self._windows, self._batch_tokens):
            pause()
            yield self._forward(batch.to(self._model.device))

    def _forward(self, batch: Batch) -> _Graph:
        model, names, inputs, outputs = self._model, [], [], []

        def keep(name: str, seen: tuple[Tensor, ...], output: Tensor) -> None:
            names.append(name)
            inputs.append(seen[0].detach().flatten(0, -2))
            outputs.append(output.requires_grad_(True))

        before = batch.targets.flatten().nonzero()[:, 0] - 1  # the positions that predict
        plain = has_plain_head(model)
        # The other kernels of attention have no derivative of their backward pass.
        with (
            _hooked(self._modules, keep),
            keeping_activations(model),
            sdpa_kernel(SDPBackend.MATH),
            torch.enable_grad(),
            call_options(model, batch) as options,
        ):
            top = model.base_model(**options).last_hidden_state if plain else model(**options).logits
        return _Graph(names, inputs, outputs, top.flatten(0, 1)[before])

    def _curved(self, graph: _Graph, changes: list[Tensor]) -> list[Float[Tensor, "targets width"]]:
        """H at the logits, seen from `top`, times each change there."""
        head = self._model.get_output_embeddings() if has_plain_head(self._model) else None
        seeds = [torch.empty_like(change) for change in changes]
        with torch.no_grad():
            for start in range(0, len(graph.top), HEAD_TOKENS):
                part = slice(start, start + HEAD_TOKENS)
                chance = (graph.top[part] if head is None else head(graph.top[part])).float().softmax(-1)
                for change, seed in zip(changes, seeds, strict=True):
                    at_logits = (change[part] if head is None else change[part] @ head.weight.T).float() * chance
                    at_logits.addcmul_(chance, at_logits.sum(-1, keepdim=True), value=-1)
                    seed[part] = at_logits if head is None else at_logits.to(seed.dtype) @ head.weight
        return seeds


def _changes(graph: _Graph, directions: Mapping[str, Tensor]) -> list[Float[Tensor, "targets width"]]:
    """J V at `top`, for each direction."""
    with torch.enable_grad():
        beginning = torch.zeros_like(graph.top).requires_grad_(True)
        derivatives = torch.autograd.grad(
            graph.top, graph.outputs, beginning, create_graph=True, allow_unused=True, materialize_grads=True
        )
    reached = [place for place, derivative in enumerate(derivatives) if derivative.requires_grad]
    found = []
    for number in range(len(next(iter(directions.values())))):
        pushes = []
        for place in reached:
            x, output = graph.inputs[place], graph.outputs[place]
            pushes.append((x @ directions[graph.names[place]][number].to(x).T).view_as(output))
        (change,) = torch.autograd.grad([derivatives[place] for place in reached], beginning, pushes, retain_graph=True)
        found.append(change)
    return found


def _backward(graph: _Graph, seed: Float[Tensor, "targets width"]) -> Sequence[Tensor]:
    return torch.autograd.grad(
        graph.top, graph.outputs, seed, retain_graph=True, allow_unused=True, materialize_grads=True
    )


@contextmanager
def _hooked(
    modules: Mapping[str, nn.Module], keep: Callable[[str, tuple[Tensor, ...], Tensor], None]
) -> Iterator[None]:
    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, inputs, output: keep(name, inputs, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
