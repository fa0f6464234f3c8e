"""Fits EK-FAC's factors by two passes over a sample of windows; no gradient outlives its layer's turn in a batch.

Each window counts as a document of its own. Sums are in float32, eigendecompositions in float64.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from headwater_indexer.ekfac.factors import save_factors
from headwater_indexer.ekfac.seeing import Derivatives, Inputs, seeing
from headwater_indexer.errors import NonFiniteGradient
from headwater_indexer.layers import Layer
from headwater_indexer.windows import Window

BLOCK_NUMBERS = 1 << 24  # of gradients that are in memory together (64 MB), and at least one gradient
WINDOWS_AT_ONCE = 64  # between two turns of the progress bar


def fit_factors(
    path: Path,
    model: PreTrainedModel,
    layers: Sequence[Layer],
    windows: Sequence[Window],
    *,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Writes the factors of `layers` to `path`. `advance` is told of windows, twice for each.

    Raises NonFiniteGradient with the layer's name where the sums overflow, DataError where a layer has no gradient.
    """
    device = model.device
    outputs = {layer.name: torch.zeros(layer.out_dim, layer.out_dim, device=device) for layer in layers}
    inputs = {layer.name: torch.zeros(layer.in_dim, layer.in_dim, device=device) for layer in layers}

    def add_moments(name: str, _: list[int], x: Inputs, d: Derivatives) -> None:
        outputs[name] += _gram(d, x)
        inputs[name] += _gram(x, d)

    def passed(see: Callable[[str, list[int], Inputs, Derivatives], None]) -> None:
        with seeing(model, layers, see, batch_tokens=batch_tokens) as run:
            for start in range(0, len(windows), WINDOWS_AT_ONCE):
                run(windows[start : start + WINDOWS_AT_ONCE])
                advance(len(windows[start : start + WINDOWS_AT_ONCE]))

    passed(add_moments)
    bases = {layer.name: (_basis(layer, outputs), _basis(layer, inputs)) for layer in layers}
    eigenvalues = {layer.name: torch.zeros(layer.out_dim, layer.in_dim, device=device) for layer in layers}

    def add_squares(name: str, _: list[int], x: Inputs, d: Derivatives) -> None:
        output, into = bases[name]
        x, d = x @ into, d @ output
        for part in blocks(len(x), eigenvalues[name].numel()):
            eigenvalues[name] += torch.bmm(d[part].mT, x[part]).square_().sum(0)

    passed(add_squares)
    save_factors(path, {name: (*bases[name], total / len(windows)) for name, total in eigenvalues.items()})


def _gram(
    left: Float[Tensor, "windows time width"], right: Float[Tensor, "windows time other"]
) -> Float[Tensor, "width width"]:
    """sum over windows of G G^T with G = left^T right, from the tokens' inner products: cheaper than G itself."""
    between = torch.bmm(right, right.mT)
    return left.flatten(0, 1).T @ torch.bmm(between, left).flatten(0, 1)


def _basis(layer: Layer, moments: dict[str, Tensor]) -> Float[Tensor, "dim dim"]:
    moment = moments.pop(layer.name)
    if not bool(moment.isfinite().all()):
        raise NonFiniteGradient(
            f"the second moments of layer {layer.name} are not finite: the model overflows in its number format. "
            "Try --dtype float32."
        )
    symmetric = (moment + moment.T).double().cpu() / 2
    vectors: Tensor = torch.linalg.eigh(symmetric).eigenvectors
    return vectors.float().to(moment.device)


def blocks(windows: int, numbers: int) -> list[slice]:
    size = max(1, BLOCK_NUMBERS // numbers)
    return [slice(start, start + size) for start in range(0, windows, size)]
