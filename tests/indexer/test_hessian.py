"""Whitened inner products against g_q^T (H + lambda I)^-1 g_z with the dense inverse."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from headwater_indexer.errors import DataError, UsageError
from headwater_indexer.hessian import HessianKind, Whitener
from headwater_indexer.layout import RowLayout

LAYOUT = RowLayout({"first": (4, 3), "second": (2, 5)})


def rows(count: int, seed: int = 0) -> Tensor:
    """Rows whose columns are correlated and of very different sizes, as gradients' are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(LAYOUT.width, LAYOUT.width, generator=generator)
    return torch.randn(count, LAYOUT.width, generator=generator) @ mix * torch.logspace(0, -4, LAYOUT.width)


def dense_hessian(kind: HessianKind, part: Tensor) -> Tensor:
    """The layer's H as one matrix, from its definition."""
    flat = part.flatten(1).double()
    if kind == "raw":
        return flat.T @ flat / len(flat)
    part = part.double()
    output = torch.linalg.eigh(torch.einsum("noi,npi->op", part, part)).eigenvectors
    into = torch.linalg.eigh(torch.einsum("noi,noj->ij", part, part)).eigenvectors
    basis = torch.kron(output, into)
    return basis @ torch.diag((flat @ basis).square().mean(0)) @ basis.T


@pytest.mark.parametrize("kind", ["raw", "ekfac"])
@pytest.mark.parametrize("documents", [6, 200])  # fewer and more than columns
def test_inner_product_of_whitened_rows_is_the_preconditioned_one(kind: HessianKind, documents: int) -> None:
    stored, asked = rows(documents), rows(5, seed=1)
    damping = 0.1
    whiten = Whitener.fit(kind, lambda: stored.split(50), LAYOUT, damping=damping)
    expected = torch.zeros(5, documents, dtype=torch.float64)
    for (_, q), (_, z) in zip(LAYOUT.split(asked), LAYOUT.split(stored), strict=True):
        hessian = dense_hessian(kind, z)
        damped = hessian + damping * hessian.trace() / len(hessian) * torch.eye(len(hessian))
        expected += q.flatten(1).double() @ torch.linalg.solve(damped, z.flatten(1).double().T)
    found = whiten(asked) @ whiten(stored).T
    assert (found - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("kind", ["raw", "ekfac"])
def test_a_whitener_survives_the_disk(kind: HessianKind, tmp_path: Path) -> None:
    whiten = Whitener.fit(kind, lambda: [rows(100)], LAYOUT, damping=0.1)
    whiten.save(tmp_path / "whitener.safetensors")
    again = Whitener.load(tmp_path / "whitener.safetensors", LAYOUT)
    assert torch.equal(whiten(rows(7, seed=2)), again(rows(7, seed=2)))


def test_each_layer_has_its_own_damping() -> None:
    stored = rows(100)
    both = Whitener.fit("ekfac", lambda: [stored], LAYOUT, damping=0.5)
    stored[:, LAYOUT.columns["second"]] *= 1000
    scaled = Whitener.fit("ekfac", lambda: [stored], LAYOUT, damping=0.5)
    first = LAYOUT.columns["first"]
    assert torch.equal(both(stored)[:, first], scaled(stored)[:, first])


def test_a_layer_without_gradient_is_named() -> None:
    stored = rows(10)
    stored[:, LAYOUT.columns["second"]] = 0
    with pytest.raises(DataError, match="layer second has no gradient in any document"):
        Whitener.fit("ekfac", lambda: [stored], LAYOUT, damping=0.1)


def test_damping_must_be_positive() -> None:
    with pytest.raises(UsageError, match="--damping 0"):
        Whitener.fit("raw", lambda: [rows(10)], LAYOUT, damping=0)
