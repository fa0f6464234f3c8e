"""Captured rows against their slow twin: the full gradient by autograd, then projected."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headwater_indexer.batches import Batch, batches, packs
from headwater_indexer.capture import Capture, capturing
from headwater_indexer.errors import ModelError, NonFiniteGradient
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.moments import measure_moments
from headwater_indexer.projection import Projections, make_projections
from headwater_indexer.watch import watching
from headwater_indexer.windows import Window

MakeModel = Callable[..., PreTrainedModel]


def windows(seed: int = 0, lengths: tuple[int, ...] = (64, 5, 33, 2, 17, 64, 48)) -> list[Window]:
    draw = np.random.default_rng(seed)
    return [
        Window(input_ids=draw.integers(0, 320, length).astype(np.int32), first_target=1 if length < 30 else 9)
        for length in lengths
    ]


def weight_of(model: PreTrainedModel, layer: Layer) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The parameter that holds the layer, and what gives the layer's [out_dim, in_dim] from one of its shape."""
    modules = dict(model.named_modules())
    if (module := modules.get(layer.name)) is not None:
        transposed = isinstance(module, Conv1D)
        return module.get_parameter("weight"), lambda gradient: gradient.T if transposed else gradient
    path, _, expert = layer.name.rpartition(".")
    experts = modules[path.rpartition(".")[0]]
    parameter = experts.get_parameter(path.rpartition(".")[2])
    return parameter, lambda gradient: gradient[int(expert)].T if experts.is_transposed else gradient[int(expert)]


def autograd_row(model: PreTrainedModel, layers: list[Layer], projections: Projections, window: Window) -> Tensor:
    """The gradient of one unpadded sequence's summed loss with respect to each weight, then through P_out and P_in."""
    weights = [weight_of(model, layer) for layer in layers]
    for weight, _ in weights:
        weight.requires_grad_(True)
    ids = torch.from_numpy(window.input_ids.astype("int64"))[None]
    logits = model(input_ids=ids).logits[0, window.first_target - 1 : -1]
    loss = functional.cross_entropy(logits, ids[0, window.first_target :], reduction="sum")
    gradients = torch.autograd.grad(loss, [weight for weight, _ in weights])
    for weight, _ in weights:
        weight.requires_grad_(False)
    parts = []
    for layer, (_, of_layer), gradient in zip(layers, weights, gradients, strict=True):
        projection = projections[layer.name]
        parts.append((projection.output @ of_layer(gradient) @ projection.input.T).flatten())
    return torch.cat(parts)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_rows_are_projected_autograd_gradients(family: str, make_model: MakeModel) -> None:
    model = make_model(family)
    layers = select_layers(model, "all")
    projections = make_projections("random", layers, rank=8, seed=1)
    asked = windows()
    with capturing(model, layers, projections, batch_tokens=256) as capture:
        rows = capture(asked)
    for row, window in zip(rows, asked, strict=True):
        expected = autograd_row(model, layers, projections, window)
        assert relative(row, expected) < 1e-5
        for columns in projections.layout.columns.values():
            if expected[columns].norm() < 1e-4 * expected.norm():
                continue  # two tokens attend to one: that query has no gradient but rounding
            assert relative(row[columns], expected[columns]) < 2e-5


def test_a_row_does_not_depend_on_its_batch(family: str, make_model: MakeModel) -> None:
    model = make_model(family)
    layers = select_layers(model, "all")
    projections = make_projections("random", layers, rank=8, seed=1)
    asked = windows()
    with capturing(model, layers, projections, batch_tokens=1) as one_by_one:
        alone = one_by_one(asked)
    for budget in (128, 256, 10_000):
        with capturing(model, layers, projections, batch_tokens=budget) as capture:
            for row, expected in zip(capture(asked), alone, strict=True):
                assert relative(row, expected) < 1e-5


def test_a_layer_that_is_used_twice_counts_twice(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.model.layers[1].mlp = model.model.layers[0].mlp
    layers = select_layers(model, "mlp")
    assert [layer.name for layer in layers] == [f"model.layers.0.mlp.{part}_proj" for part in ("gate", "up", "down")]
    projections = make_projections("random", layers, rank=8, seed=1)
    with capturing(model, layers, projections, batch_tokens=256) as capture:
        rows = capture(windows())
    for row, window in zip(rows, windows(), strict=True):
        assert relative(row, autograd_row(model, layers, projections, window)) < 1e-5


def test_hooks_are_gone_after_an_error_and_weights_stay_frozen(make_model: MakeModel) -> None:
    model = make_model("gpt2")
    layers = select_layers(model, "all")
    projections = make_projections("random", layers, rank=4, seed=1)
    with pytest.raises(RuntimeError, match="broken"), capturing(model, layers, projections, batch_tokens=64):
        raise RuntimeError("broken")
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())


def test_a_loss_that_is_not_finite_names_the_sequence(make_model: MakeModel) -> None:
    model = make_model("gpt2")
    with torch.no_grad():
        model.transformer.wte.weight[7] = float("nan")
    layers = select_layers(model, "mlp")
    asked = [Window(input_ids=np.array([1, 2, 3], dtype=np.int32), first_target=1)] * 2
    asked.append(Window(input_ids=np.array([1, 7, 3], dtype=np.int32), first_target=1))
    model.lm_head.weight = nn.Parameter(torch.randn(320, 32), requires_grad=False)  # untied from the inputs
    with (
        capturing(model, layers, make_projections("random", layers, rank=4, seed=1), batch_tokens=64) as capture,
        pytest.raises(NonFiniteGradient, match="sequence 2 is not finite") as raised,
    ):
        capture(asked)
    assert raised.value.position == 2


def test_a_layer_that_takes_no_part_is_named(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.add_module("spare", nn.Linear(4, 4))
    layers = select_layers(model, "spare|gate_proj")
    projections = make_projections("random", layers, rank=4, seed=1)
    with (
        capturing(model, layers, projections, batch_tokens=64) as capture,
        pytest.raises(ModelError, match="layer spare took no part in the loss"),
    ):
        capture(windows())


def test_a_model_that_alters_a_layers_output_in_place_is_told(make_model: MakeModel) -> None:
    model = make_model("llama")
    first = model.model.layers[0].self_attn.q_proj
    layers = select_layers(model, "q_proj")
    projections = make_projections("random", layers, rank=4, seed=1)
    with (
        capturing(model, layers, projections, batch_tokens=64) as capture,
        pytest.raises(ModelError, match="LlamaForCausalLM alters the output of a watched layer in place"),
    ):
        doubled(capture, first)


def doubled(capture: Capture, module: nn.Module) -> Tensor:
    """Rows of a model that doubles the module's output, after the hook that watches it."""
    module.register_forward_hook(lambda _, __, output: output.mul_(2))
    return capture(windows())


def test_counted_tokens_alone_make_a_row(make_model: MakeModel) -> None:
    model = make_model("llama")
    layers = select_layers(model, "all")
    projections = make_projections("random", layers, rank=8, seed=1)
    ids = windows()[0].input_ids
    first, second = np.zeros(64, dtype=bool), np.zeros(64, dtype=bool)
    first[9:20], second[20:] = True, True
    asked = [Window(input_ids=ids, first_target=9, counted=counted) for counted in (first, second, None)]
    with capturing(model, layers, projections, batch_tokens=256) as capture:
        rows = capture(asked)
    assert [window.targets for window in asked] == [11, 44, 55]
    assert relative(rows[0] + rows[1], rows[2]) < 1e-5  # a gradient is a sum over the tokens that count
    assert relative(rows[0], rows[2]) > 0.1


@pytest.mark.parametrize("family", ["llama", "mixtral", "qwen2-moe"])
@pytest.mark.parametrize("cut", [batches, packs])
def test_second_moments_are_means_over_all_tokens(
    family: str, cut: Callable[[list[Window], int], Iterator[Batch]], make_model: MakeModel
) -> None:
    """Against a sum of outer products, window by window, of what a layer and each expert is shown."""
    model = make_model(family)
    layers = select_layers(model, "mlp")
    moments = measure_moments(model, layers, cut(windows(), 150))
    inputs = {layer.name: torch.zeros(layer.in_dim, layer.in_dim) for layer in layers}
    outputs = {layer.name: torch.zeros(layer.out_dim, layer.out_dim) for layer in layers}

    def add(sums: dict[str, Tensor], name: str, seen: Tensor) -> None:
        assert seen.shape[:2] == (1, length)  # an expert is shown zeros for the tokens of others
        sums[name] += torch.einsum("bti,btj->ij", seen, seen)

    with watching(
        model, layers, lambda name, seen: (add(inputs, name, seen), seen)[1], lambda name, _, d: add(outputs, name, d)
    ) as run:
        for window in windows():
            length = len(window.input_ids)
            run(next(batches([window], 1)))
    tokens = sum(len(window.input_ids) for window in windows())
    for name, moment in moments.items():
        assert relative(moment.input, inputs[name] / tokens) < 1e-5
        assert relative(moment.output, outputs[name] / tokens) < 1e-5
