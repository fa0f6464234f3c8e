"""Second moments against their slow twin: each window alone, its inputs and derivatives kept by autograd."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch, batches, packs
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.moments import measure_moments, moments_bytes, sample_tokens
from headwater_indexer.windows import Window

MakeModel = Callable[..., PreTrainedModel]


def windows() -> list[Window]:
    draw = np.random.default_rng(0)
    return [
        Window(input_ids=draw.integers(0, 320, length).astype(np.int32), first_target=1) for length in (40, 7, 33, 12)
    ]


def factors(model: PreTrainedModel, name: str, window: Window) -> tuple[Tensor, Tensor]:
    """The layer's inputs, and the derivatives of the window's summed loss at its outputs, [time, width] each."""
    kept: list[Tensor] = []

    def keep(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.extend([inputs[0].detach(), output.requires_grad_(True)])

    handle = model.get_submodule(name).register_forward_hook(keep)
    ids = torch.from_numpy(window.input_ids.astype("int64"))[None]
    with torch.enable_grad():
        loss = functional.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="sum")
        (derivative,) = torch.autograd.grad(loss, kept[1])
    handle.remove()
    return kept[0][0], derivative[0]


@pytest.mark.parametrize("cut", [batches, packs])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_moments_are_means_over_all_tokens(
    family: str, cut: Callable[[list[Window], int], Iterator[Batch]], make_model: MakeModel
) -> None:
    model = make_model(family)
    layers = select_layers(model, "mlp")
    found = measure_moments(model, layers, cut(windows(), 60))
    for layer in layers:
        parts = [factors(model, layer.name, window) for window in windows()]
        inputs, derivatives = (torch.cat(side) for side in zip(*parts, strict=True))
        for moment, rows in ((found[layer.name].input, inputs), (found[layer.name].output, derivatives)):
            expected = rows.T @ rows / len(rows)
            assert (moment - expected).norm() < 1e-5 * expected.norm()


def test_the_memory_that_is_stated_is_what_the_moments_take(make_model: MakeModel) -> None:
    model = make_model("llama")
    layers = select_layers(model, "all")
    found = measure_moments(model, layers, packs(windows(), 60))
    assert moments_bytes(layers) == sum(m.input.nbytes + m.output.nbytes for m in found.values())


def test_a_sample_grows_with_the_corpus_and_the_layers() -> None:
    narrow, wide = Layer(name="a", in_dim=64, out_dim=256), Layer(name="b", in_dim=4096, out_dim=14_336)
    limit = 1_000_000
    assert sample_tokens([narrow], corpus=50_000, at_most=limit) == 50_000  # a small corpus whole
    assert sample_tokens([narrow], corpus=1_000_000, at_most=limit) == 65_536
    assert sample_tokens([narrow], corpus=16_000_000, at_most=limit) == 500_000
    assert sample_tokens([narrow, wide], corpus=1_000_000, at_most=limit) == 32 * 14_336
    assert sample_tokens([narrow, wide], corpus=1_000_000, at_most=1000) == 1000
