"""Gauss-Newton products against torch's forward-mode derivatives, and conjugate gradients against a dense solution."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headwater_indexer.ekfac.gauss_newton import GaussNewton
from headwater_indexer.ekfac.refining import Steps, dot, refine, repeat
from headwater_indexer.errors import ConfigurationError
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.recomputing import recompute_blocks
from headwater_indexer.windows import Window


def windows(lengths: tuple[int, ...]) -> list[Window]:
    draw = np.random.default_rng(0)
    return [Window(input_ids=draw.integers(3, 320, n).astype(np.int32), first_target=1 + n // 4) for n in lengths]


def slow_product(
    model: PreTrainedModel, layers: list[Layer], asked: list[Window], direction: dict[str, Tensor]
) -> dict[str, Tensor]:
    """sum over windows of J^T H J V, over their number; one window at a time, unpadded."""
    flipped = {layer.name: isinstance(model.get_submodule(layer.name), Conv1D) for layer in layers}
    weights = {f"{name}.weight": model.get_submodule(name).get_parameter("weight") for name in flipped}
    tangents = {f"{name}.weight": direction[name].T if flipped[name] else direction[name] for name in flipped}
    total = {name: torch.zeros_like(direction[name]) for name in flipped}
    for window in asked:
        ids = torch.from_numpy(window.input_ids.astype("int64"))[None]

        def logits(given: dict[str, Tensor], ids: Tensor = ids, first: int = window.first_target) -> Tensor:
            output = functional_call(model, given, (), {"input_ids": ids, "use_cache": False})
            return output.logits[0, first - 1 : -1]

        with sdpa_kernel(SDPBackend.MATH):
            found, change = jvp(logits, (weights,), (tangents,))
            chance = found.softmax(-1)
            curved = chance * change - chance * (chance * change).sum(-1, keepdim=True)
            (product,) = vjp(logits, weights)[1](curved)
        for name in total:
            part = product[f"{name}.weight"]
            total[name] += (part.T if flipped[name] else part) / len(asked)
    return total


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_products_are_those_of_forward_and_reverse_mode(
    family: str, make_model: Callable[..., PreTrainedModel]
) -> None:
    model = make_model(family)
    layers, asked = select_layers(model, "all"), windows((24, 5, 17))
    if any(layer.name not in dict(model.named_modules()) for layer in layers):  # fused experts
        with pytest.raises(ConfigurationError, match="several experts in one tensor"):
            GaussNewton(model, layers, asked, batch_tokens=40)
        return
    torch.manual_seed(0)
    directions = {layer.name: torch.randn(2, layer.out_dim, layer.in_dim) for layer in layers}
    matrix = GaussNewton(model, layers, asked, batch_tokens=40)  # two batches
    products = matrix(directions)
    for number in range(2):
        expected = slow_product(model, layers, asked, {name: v[number] for name, v in directions.items()})
        error = sum(float((products[name][number] - part).square().sum()) for name, part in expected.items())
        assert error < 1e-8 * sum(float(part.square().sum()) for part in expected.values())
    torch.testing.assert_close(matrix.curvatures(directions), dot(directions, products), rtol=1e-4, atol=0)


def test_products_of_a_model_whose_blocks_are_computed_again(make_model: Callable[..., PreTrainedModel]) -> None:
    model, again = make_model("llama"), make_model("llama")
    recompute_blocks(again)
    layers, asked = select_layers(model, "mlp"), windows((24, 5))
    directions = {layer.name: torch.ones(1, layer.out_dim, layer.in_dim) for layer in layers}
    expected = GaussNewton(model, layers, asked, batch_tokens=40)(directions)
    found = GaussNewton(again, layers, asked, batch_tokens=40)(directions)
    torch.testing.assert_close(found, expected)
    assert all(isinstance(block.forward, partial) for block in again.model.layers)


class Dense:
    """A curvature that is a matrix, over one layer of [out_dim, in_dim] = [3, 4]."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def __call__(self, directions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"layer": (directions["layer"].flatten(1) @ self.matrix).view(-1, 3, 4)}

    def curvatures(self, directions: Mapping[str, Tensor]) -> Tensor:
        return dot(directions, self(directions))


def halves(rows: Tensor) -> Tensor:
    """A preconditioner."""
    return rows / torch.arange(1.0, 13.0).view(3, 4)


@pytest.fixture
def dense() -> Dense:
    root = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    return Dense(root @ root.T / 12)


def refined(dense: Dense, held_out: Dense, steps: int) -> tuple[Tensor, Tensor, Steps]:
    gradients = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(2))
    found, taken = refine(
        {"layer": gradients},
        lambda rows: {"layer": halves(rows["layer"])},
        dense,
        held_out,
        {"layer": 0.5},
        steps,
    )
    return gradients, found["layer"], taken


def test_enough_steps_solve_the_system(dense: Dense) -> None:
    gradients, found, _ = refined(dense, dense, 14)
    expected = torch.linalg.solve(dense.matrix + 0.5 * torch.eye(12), gradients.flatten(1).T).T
    torch.testing.assert_close(found.flatten(1), expected, rtol=1e-3, atol=1e-4)


def test_no_step_is_taken_that_does_not_help_on_what_is_held_out(dense: Dense) -> None:
    flat = Dense(torch.zeros(12, 12))  # a sample that misses the curvature of what is held out
    steep = Dense(1e4 * torch.eye(12))
    _, found, taken = refined(flat, steep, 5)
    assert len(taken.lengths) == 1
    assert not found.any()
    objectives = []
    for steps in (1, 2, 3, 4):
        gradients, found, _ = refined(dense, steep, steps)
        by_layer = {"layer": found}
        quadratic = steep.curvatures(by_layer) + 0.5 * dot(by_layer, by_layer)
        objectives.append(quadratic / 2 - dot(by_layer, {"layer": gradients}))
    assert all(bool((after <= before).all()) for before, after in pairwise(objectives))


def test_the_same_steps_make_influence_symmetric(dense: Dense) -> None:
    """<x(g), h> = <g, x(h)>, which conjugate gradients of their own for g and h do not give."""
    gradients, found, taken = refined(dense, dense, 3)
    others = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(3))

    def precondition(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"layer": halves(rows["layer"])}

    again = repeat({"layer": others}, precondition, dense, {"layer": 0.5}, taken)["layer"]
    torch.testing.assert_close((found * others).sum((1, 2)), (gradients * again).sum((1, 2)), rtol=1e-4, atol=1e-5)
    own, _ = refine({"layer": others}, precondition, dense, dense, {"layer": 0.5}, 3)
    assert not torch.allclose((found * others).sum((1, 2)), (gradients * own["layer"]).sum((1, 2)), rtol=1e-4)
