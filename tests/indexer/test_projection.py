"""Projections: what each kind promises, and that the same seed gives the same matrices for ever."""

from pathlib import Path

import pytest
import torch

from headwater_indexer import projection
from headwater_indexer.errors import UsageError
from headwater_indexer.layers import Layer
from headwater_indexer.moments import Moments
from headwater_indexer.projection import EPSILON, Projections, make_projections, random_rows

LAYERS = [Layer(name="a", in_dim=12, out_dim=7), Layer(name="b.c", in_dim=5, out_dim=20)]


def moments() -> dict[str, Moments]:
    generator = torch.Generator().manual_seed(3)

    def second_moment(dim: int) -> torch.Tensor:
        samples = torch.randn(50, dim, generator=generator) * torch.logspace(0, -2, dim)
        return samples.T @ samples / 50

    return {
        layer.name: Moments(input=second_moment(layer.in_dim), output=second_moment(layer.out_dim)) for layer in LAYERS
    }


def test_ranks_are_clipped_to_the_layer() -> None:
    projections = make_projections("random", LAYERS, rank=8, seed=0)
    assert projections.layout.shapes == {"a": (7, 8), "b.c": (8, 5)}
    assert projections.layout.width == 7 * 8 + 8 * 5
    assert projections.layout.columns == {"a": slice(0, 56), "b.c": slice(56, 96)}


def test_random_rows_are_orthonormal_and_seeded() -> None:
    rows = random_rows(4, 9, seed=5)
    assert torch.allclose(rows @ rows.T, torch.eye(4, dtype=torch.float64))
    assert torch.equal(rows, random_rows(4, 9, seed=5))
    assert not torch.equal(rows, random_rows(4, 9, seed=6))


def test_a_choice_of_layers_changes_no_projection() -> None:
    both = make_projections("random", LAYERS, rank=4, seed=0)
    alone = make_projections("random", LAYERS[1:], rank=4, seed=0)
    assert torch.equal(both["b.c"].input, alone["b.c"].input)


def test_pca_takes_the_leading_eigenvectors() -> None:
    measured = moments()
    projection = make_projections("pca", LAYERS, rank=3, seed=0, moments=measured)["a"]
    values = torch.linalg.eigvalsh(measured["a"].input)
    assert torch.allclose(
        projection.input @ measured["a"].input @ projection.input.T, values.flip(0)[:3].diag(), atol=1e-5
    )


def test_whitened_at_full_rank_preserves_the_preconditioned_inner_product() -> None:
    measured = moments()
    projection = make_projections("whitened", LAYERS, rank=99, seed=0, moments=measured)["a"]
    moment = measured["a"].input.double()
    expected = torch.linalg.inv(moment + EPSILON * moment.trace() / len(moment) * torch.eye(len(moment)))
    found = projection.input.double().T @ projection.input.double()
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_a_wide_layer_is_whitened_by_another_root_of_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = moments()
    narrow = make_projections("whitened", LAYERS, rank=99, seed=0, moments=measured)["b.c"]
    monkeypatch.setattr(projection, "WIDE", 1)
    wide = make_projections("whitened", LAYERS, rank=99, seed=0, moments=measured)["b.c"]
    assert not torch.allclose(wide.output, narrow.output)
    for found, expected in ((wide.input, narrow.input), (wide.output, narrow.output)):
        difference = found.T @ found - expected.T @ expected
        assert difference.norm() < 1e-5 * (expected.T @ expected).norm()


def test_projections_survive_the_disk_in_order(tmp_path: Path) -> None:
    projections = make_projections("random", LAYERS[::-1], rank=4, seed=0)
    projections.save(tmp_path / "projections.safetensors")
    again = Projections.load(tmp_path / "projections.safetensors")
    assert list(again) == ["b.c", "a"]
    assert all(torch.equal(again[name].output, projections[name].output) for name in again)


def test_a_rank_of_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="--rank 0"):
        make_projections("random", LAYERS, rank=0, seed=0)
