"""Whitening: (H + lambda I)^-1 = W^T W per layer, so that an inner product of whitened rows is the influence.

H is the uncentred second moment of the projected gradients (the empirical Fisher), either as it is (LoGra, arXiv
2405.13954) or as EK-FAC sees it (arXiv 1806.03884, 2308.03296): eigenbases from the rows' and columns' covariances,
eigenvalues measured in that basis. EK-FAC needs k^2 numbers where the raw one needs k^4, and keeps its rank when there
are fewer documents than columns.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from headwater_indexer.durable import replacing
from headwater_indexer.errors import DataError, UsageError
from headwater_indexer.layout import RowLayout
from headwater_indexer.tensors import reading_tensors

HessianKind = Literal["raw", "ekfac"]
Rows = Float[Tensor, "rows width"]
# Gives a fresh pass over all rows, block by block.
Passes = Callable[[], Iterable[Rows]]


class Whitener:
    """Per layer an input and an output basis (or one basis for both) and a scale for each coordinate."""

    def __init__(self, tensors: Mapping[str, Tensor], layout: RowLayout) -> None:
        # A matrix's order in memory decides how its products are rounded: one order, fitted or loaded.
        self._tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        self._layout = layout

    @classmethod
    def fit(cls, kind: HessianKind, passes: Passes, layout: RowLayout, *, damping: float) -> "Whitener":
        """Two passes over the rows for ekfac, one for raw. `damping` is lambda over the layer's mean eigenvalue."""
        if not damping > 0:
            raise UsageError(f"--damping {damping}: it must be above 0")
        fit = _fit_ekfac if kind == "ekfac" else _fit_raw
        return cls(fit(passes, layout, damping), layout)

    def __call__(self, rows: Rows) -> Rows:
        """W g for each row g."""
        whitened = torch.empty_like(rows)
        for name, part in self._layout.split(rows):
            whitened[:, self._layout.columns[name]] = self._whiten(name, part).flatten(1)
        return whitened

    def _whiten(self, name: str, part: Float[Tensor, "rows rank_out rank_in"]) -> Tensor:
        if (basis := self._tensors.get(f"{name}.basis")) is not None:
            return part.flatten(1) @ basis
        rotated = self._tensors[f"{name}.output"].T @ part @ self._tensors[f"{name}.input"]
        return rotated * self._tensors[f"{name}.scale"]

    def save(self, path: Path) -> None:
        with replacing(path) as aside:
            aside.write_bytes(save(self._tensors))

    @classmethod
    def load(cls, path: Path, layout: RowLayout) -> "Whitener":
        """Raises IndexDamaged."""
        with reading_tensors(path), safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return cls(tensors, layout)


def _fit_ekfac(passes: Passes, layout: RowLayout, damping: float) -> dict[str, Tensor]:
    covariances = {
        name: (torch.zeros(out, out, dtype=torch.float64), torch.zeros(into, into, dtype=torch.float64))
        for name, (out, into) in layout.shapes.items()
    }
    for rows in passes():
        for name, part in layout.split(rows):
            by_row = part.transpose(0, 1).flatten(1)  # rank_out, rows * rank_in
            by_column = part.flatten(0, 1)  # rows * rank_out, rank_in
            covariances[name][0].add_(by_row @ by_row.T)
            covariances[name][1].add_(by_column.T @ by_column)
    bases = {name: tuple(torch.linalg.eigh(c).eigenvectors.float() for c in pair) for name, pair in covariances.items()}

    count = 0
    eigenvalues = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in layout.shapes.items()}
    for rows in passes():
        count += len(rows)
        for name, part in layout.split(rows):
            output, into = bases[name]
            eigenvalues[name] += (output.T @ part @ into).square().sum(0)
    tensors = {}
    for name, (output, into) in bases.items():
        tensors[f"{name}.output"], tensors[f"{name}.input"] = output, into
        tensors[f"{name}.scale"] = _damped(eigenvalues[name] / count, damping, name).rsqrt().float()
    return tensors


def _fit_raw(passes: Passes, layout: RowLayout, damping: float) -> dict[str, Tensor]:
    count = 0
    fishers = {name: torch.zeros(out * into, out * into) for name, (out, into) in layout.shapes.items()}
    for rows in passes():
        count += len(rows)
        for name, part in layout.split(rows):
            flat = part.flatten(1)
            fishers[name].addmm_(flat.T, flat)
    tensors = {}
    for name, fisher in fishers.items():
        values, vectors = torch.linalg.eigh(fisher.double() / count)
        scale = _damped(values.clamp(min=0), damping, name).rsqrt()
        tensors[f"{name}.basis"] = (vectors * scale).float()
    return tensors


def _damped(eigenvalues: Tensor, damping: float, name: str) -> Tensor:
    mean = eigenvalues.mean()
    if not mean > 0:
        raise DataError(f"layer {name} has no gradient in any document: leave it out with --layers")
    return eigenvalues + damping * mean
