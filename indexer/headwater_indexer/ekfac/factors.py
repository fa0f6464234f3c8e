"""EK-FAC (arXiv 1806.03884): per layer two eigenbases, and the mean squared coordinate of the documents' gradients.

    H ~ (U_out x U_in) diag(eigenvalues) (U_out x U_in)^T

U_out and U_in are the eigenvectors of sum_z G_z G_z^T and of sum_z G_z^T G_z over documents z with gradients G_z
[out_dim, in_dim]. (The second moments of single tokens, as K-FAC has them, foretold less: an LDS of 0.738 for 0.746.)
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from headwater_indexer.durable import replacing
from headwater_indexer.errors import DataError
from headwater_indexer.layers import Layer
from headwater_indexer.pausing import pause

# One tensor [queries, out_dim, in_dim] for each layer.
Gradients = dict[str, Tensor]
DAMPING = (
    1e-4  # over the layer's mean eigenvalue. Measured, LDS: 0.747 at 1e-5, 0.746 here, 0.743 at 1e-3, 0.732 at 1e-2
)


def factors_bytes(layers: Sequence[Layer]) -> int:
    """What the factors of these layers take, on the disk and while they are fitted, in bytes."""
    return sum(4 * (layer.in_dim**2 + layer.out_dim**2 + layer.in_dim * layer.out_dim) for layer in layers)


class Factors:
    """The factors of all watched layers in one file, read layer by layer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def precondition(self, gradients: Mapping[str, Tensor], *, damping: float = DAMPING) -> Gradients:
        """(H + lambda I)^-1 g for each gradient, lambda being `damping` times the layer's mean eigenvalue."""
        return {
            name: solve(gradients[name], output, into, eigenvalues + damping * eigenvalues.mean())
            for name, (output, into, eigenvalues) in self._layers(gradients)
        }

    def mean_eigenvalues(self) -> dict[str, float]:
        """Of each layer: the scale that dampings are relative to."""
        with safe_open(self._path, framework="pt") as file:
            names = [key.removesuffix(".eigenvalues") for key in file.keys() if key.endswith(".eigenvalues")]  # noqa: SIM118
            return {name: float(file.get_tensor(f"{name}.eigenvalues").double().mean()) for name in names}

    def _layers(self, gradients: Mapping[str, Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
        with safe_open(self._path, framework="pt") as file:
            for name, gradient in gradients.items():
                pause()
                parts = ("output", "input", "eigenvalues")
                yield name, [file.get_tensor(f"{name}.{part}").to(gradient.device) for part in parts]


def solve(
    gradients: Float[Tensor, "queries out_dim in_dim"],
    output: Float[Tensor, "out_dim out_dim"],
    into: Float[Tensor, "in_dim in_dim"],
    eigenvalues: Float[Tensor, "out_dim in_dim"],
) -> Float[Tensor, "queries out_dim in_dim"]:
    """Divides each coordinate in the two eigenbases (columns) by its eigenvalue."""
    return output @ ((output.T @ gradients @ into) / eigenvalues) @ into.T


def save_factors(path: Path, layers: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> None:
    """Writes (output, input, eigenvalues) of each layer. Raises DataError for a layer without any gradient."""
    tensors = {}
    for name, (output, into, eigenvalues) in layers.items():
        if not eigenvalues.mean() > 0:
            raise DataError(f"layer {name} has no gradient in any document: leave it out with --layers")
        tensors[f"{name}.output"] = output.float().contiguous().cpu()
        tensors[f"{name}.input"] = into.float().contiguous().cpu()
        tensors[f"{name}.eigenvalues"] = eigenvalues.float().contiguous().cpu()
    with replacing(path) as aside:
        save_file(tensors, aside)


def empty(layers: Sequence[Layer], queries: int, device: torch.device) -> Gradients:
    """Zeros for the gradients of so many queries."""
    return {layer.name: torch.zeros(queries, layer.out_dim, layer.in_dim, device=device) for layer in layers}
