"""The two small matrices through which a layer's gradient is seen: LoGra (arXiv 2405.13954), section 3."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from headwater_indexer.durable import replacing
from headwater_indexer.errors import UsageError
from headwater_indexer.layers import Layer
from headwater_indexer.layout import RowLayout
from headwater_indexer.moments import Moments
from headwater_indexer.tensors import reading_tensors

ProjectionKind = Literal["random", "pca", "whitened"]
EPSILON = 1e-3  # of the mean eigenvalue: keeps directions that the sample never used from blowing up
# Columns of a moment; there eigenvectors take twenty times as long as Cholesky's root, and both grow by d^3.
WIDE = 1024


@dataclass(frozen=True, kw_only=True)
class Projection:
    """P_in and P_out of one layer, in float32."""

    input: Float[Tensor, "rank_in in_dim"]
    output: Float[Tensor, "rank_out out_dim"]

    @property
    def shape(self) -> tuple[int, int]:
        """[rank_out, rank_in] of the projected gradient."""
        return len(self.output), len(self.input)


class Projections(Mapping[str, Projection]):
    """The projections of all watched layers, in the order of the columns of a row."""

    def __init__(self, by_layer: dict[str, Projection]) -> None:
        self._by_layer = by_layer

    def __getitem__(self, layer: str) -> Projection:
        return self._by_layer[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_layer)

    def __len__(self) -> int:
        return len(self._by_layer)

    @property
    def layout(self) -> RowLayout:
        """Where each layer's columns lie in a row."""
        return RowLayout({name: projection.shape for name, projection in self.items()})

    def to(self, device: torch.device) -> "Projections":
        return Projections(
            {name: Projection(input=p.input.to(device), output=p.output.to(device)) for name, p in self.items()}
        )

    def save(self, path: Path) -> None:
        """Writes safetensors; the order of the layers is part of the file."""
        tensors = {}
        for number, (name, projection) in enumerate(self.items()):
            tensors[f"{number:05d}.{name}.input"] = projection.input.contiguous()
            tensors[f"{number:05d}.{name}.output"] = projection.output.contiguous()
        with replacing(path) as aside:
            aside.write_bytes(save(tensors))

    @classmethod
    def load(cls, path: Path) -> "Projections":
        """Raises IndexDamaged."""
        with reading_tensors(path), safe_open(path, framework="pt") as file:
            keys = sorted(key for key in file.keys() if key.endswith(".input"))  # noqa: SIM118 - not a mapping
            return cls(
                {
                    key[6:].removesuffix(".input"): Projection(
                        input=file.get_tensor(key), output=file.get_tensor(key.removesuffix("input") + "output")
                    )
                    for key in keys
                }
            )


def make_projections(
    kind: ProjectionKind, layers: Sequence[Layer], *, rank: int, seed: int, moments: Mapping[str, Moments] | None = None
) -> Projections:
    """The projections of `kind` at `rank`, clipped to a layer's dimensions.

    random    rows drawn uniformly among orthonormal ones: preserves the raw inner product of gradients
    pca       the leading eigenvectors of the second moments of inputs and of output derivatives
    whitened  R (M + eps mean(M) I)^-1/2 with R random and M the second moments: preserves the preconditioned product

    Each matrix has a generator of its own, seeded by `seed`, the layer and the side, so that a choice of layers does
    not change the projections of any. `moments` per layer are needed for pca and whitened.
    """
    if rank < 1:
        raise UsageError(f"--rank {rank}: it must be at least 1")

    def one_side(layer: Layer, side: Literal["input", "output"]) -> Float[Tensor, "rank dim"]:
        dim = layer.in_dim if side == "input" else layer.out_dim
        if kind == "random":
            return random_rows(min(rank, dim), dim, seed=_seed(seed, layer.name, side)).float()
        if moments is None:
            raise UsageError(f"projection {kind} needs the second moments of the layers")
        moment = getattr(moments[layer.name], side).double()
        if kind == "pca":
            leading: Tensor = torch.linalg.eigh(moment).eigenvectors[:, -min(rank, dim) :]  # ascending
            return leading.T.flip(0).float().contiguous()
        rows = random_rows(min(rank, dim), dim, seed=_seed(seed, layer.name, side)).to(moment)
        return _whitened(rows, moment).float()

    return Projections(
        {layer.name: Projection(input=one_side(layer, "input"), output=one_side(layer, "output")) for layer in layers}
    )


def _whitened(rows: Float[Tensor, "rank dim"], moment: Float[Tensor, "dim dim"]) -> Float[Tensor, "rank dim"]:
    """`rows` times an inverse root of the damped moment. Random rows times an orthogonal matrix are as random as
    before, so any root does: the symmetric one, or, where its eigenvectors would take minutes a layer, Cholesky's."""
    dim = len(moment)
    ridge = EPSILON * moment.trace() / dim
    if dim > WIDE:
        root = torch.linalg.cholesky(moment + ridge * torch.eye(dim).to(moment))
        solved: Tensor = torch.linalg.solve_triangular(root, rows, upper=False, left=False)
        return solved
    values, vectors = torch.linalg.eigh(moment)
    inverse_root = (values.clamp(min=0) + ridge).rsqrt()
    whitened: Tensor = rows @ (vectors * inverse_root) @ vectors.T
    return whitened


def random_rows(rows: int, dim: int, *, seed: int) -> Float[Tensor, "rows dim"]:
    """Orthonormal rows, uniformly distributed (Haar), in float64, drawn on the CPU: the same on every machine."""
    gaussian = torch.randn(dim, rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis, triangle = torch.linalg.qr(gaussian)
    signed: Tensor = basis * triangle.diagonal().sign()
    return signed.T


def _seed(seed: int, layer: str, side: str) -> int:
    digest = hashlib.sha256(f"{seed} {layer} {side}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
