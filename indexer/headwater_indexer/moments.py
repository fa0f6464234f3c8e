"""Second moments of what goes into and comes back to each layer: the two factors of K-FAC (arXiv 1503.05671)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch
from headwater_indexer.errors import NonFiniteGradient
from headwater_indexer.layers import Layer
from headwater_indexer.watch import Routed, watching_routed

SMALL_CORPUS = 65_536  # tokens: all of it is looked at
TOKENS_PER_DIMENSION = 32  # of the widest layer; measured: it costs at most 0.004 of LDS, an eighth of it 0.01
SHARE = 1 / 32  # of a large corpus, so that the sample costs a few per cent of the capture


@dataclass(frozen=True, kw_only=True)
class Moments:
    """A = mean x x^T and S = mean d d^T over all tokens, for one layer; an expert adds zero where it is not asked."""

    input: Float[Tensor, "in_dim in_dim"]
    output: Float[Tensor, "out_dim out_dim"]


@dataclass(frozen=True, kw_only=True)
class MomentSums:
    """The sums of which Moments are means, over some of the tokens."""

    by_layer: dict[str, Moments]
    tokens: int


def moments_bytes(layers: Sequence[Layer]) -> int:
    """Memory that measuring the moments of these layers takes, in bytes."""
    return sum(4 * (layer.in_dim**2 + layer.out_dim**2) for layer in layers)


def sample_tokens(layers: Sequence[Layer], *, corpus: int, at_most: int) -> int:
    """How many tokens of a corpus of so many the moments are to be measured on."""
    widest = max(max(layer.in_dim, layer.out_dim) for layer in layers)
    enough = max(SMALL_CORPUS, TOKENS_PER_DIMENSION * widest, int(SHARE * corpus))
    return min(corpus, at_most, enough)


def measure_moments(model: PreTrainedModel, layers: Sequence[Layer], batches: Iterable[Batch]) -> dict[str, Moments]:
    """The second moments over all tokens of `batches`, padding left out. Raises as `mean_moments` does."""
    return mean_moments([sum_moments(model, layers, batches)])


def sum_moments(model: PreTrainedModel, layers: Sequence[Layer], batches: Iterable[Batch]) -> MomentSums:
    """Over all tokens of `batches`, padding left out, accumulated in float32."""
    device = model.device
    inputs = {layer.name: torch.zeros(layer.in_dim, layer.in_dim, device=device) for layer in layers}
    outputs = {layer.name: torch.zeros(layer.out_dim, layer.out_dim, device=device) for layer in layers}
    tokens = 0
    mask: Tensor

    def on_input(name: str, activation: Tensor, routed: Routed | None) -> Tensor:
        flat = activation[_counted(mask, routed)].float()
        inputs[name].addmm_(flat.T, flat)
        return mask

    def on_output_grad(name: str, mask: Tensor, grad: Tensor, routed: Routed | None) -> None:
        flat = grad[_counted(mask, routed)].float()
        outputs[name].addmm_(flat.T, flat)

    with watching_routed(model, layers, on_input, on_output_grad) as run:
        for batch in batches:
            mask = batch.attention_mask.to(device).bool()
            run(batch.to(device))
            tokens += int(mask.sum())
    sums = {layer.name: Moments(input=inputs[layer.name].cpu(), output=outputs[layer.name].cpu()) for layer in layers}
    return MomentSums(by_layer=sums, tokens=tokens)


def mean_moments(parts: Iterable[MomentSums]) -> dict[str, Moments]:
    """The means over the tokens of all parts, which are added in their order: the same wherever each was summed.

    Raises NonFiniteGradient with the layer's name when they are not finite.
    """
    every = iter(parts)
    first = next(every)
    total, tokens = first.by_layer, first.tokens
    for part in every:
        tokens += part.tokens
        for name, more in part.by_layer.items():
            total[name].input.add_(more.input)
            total[name].output.add_(more.output)
    for name, moment in total.items():
        moment.input.div_(tokens)
        moment.output.div_(tokens)
        if not (moment.input.isfinite().all() and moment.output.isfinite().all()):
            raise NonFiniteGradient(
                f"the second moments of layer {name} are not finite: the model overflows in its number format. "
                "Try --dtype float32."
            )
    return total


def _counted(mask: Bool[Tensor, "batch time"], routed: Routed | None) -> Bool[Tensor, "..."]:
    """Which of a layer's tokens are no padding."""
    return mask if routed is None else mask.flatten()[routed.tokens]
