"""Packed batches and the chunked loss against their slow twins: padded batches, and the model's own logits."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from headwater_indexer import losses
from headwater_indexer.batches import Batch, batches, packs
from headwater_indexer.capture import capturing
from headwater_indexer.layers import select_layers
from headwater_indexer.losses import has_plain_head, losses_backward
from headwater_indexer.packed_attention import can_pack, packed_attention
from headwater_indexer.packing import Packing
from headwater_indexer.projection import make_projections
from headwater_indexer.watch import watching
from headwater_indexer.windows import Window

MakeModel = Callable[..., PreTrainedModel]
UNPACKED = {"falcon"}  # its attention is not handed on


def windows(lengths: tuple[int, ...] = (64, 5, 33, 2, 17, 64, 48, 50)) -> list[Window]:
    draw = np.random.default_rng(0)
    return [
        Window(input_ids=draw.integers(0, 320, length).astype(np.int32), first_target=1 if length < 30 else 9)
        for length in lengths
    ]


def own_loss(model: PreTrainedModel, window: Window) -> Tensor:
    ids = torch.from_numpy(window.input_ids.astype("int64"))
    logits = model(input_ids=ids[None]).logits[0, window.first_target - 1 : -1]
    return functional.cross_entropy(logits, ids[window.first_target :], reduction="sum")


def rows_of(model: PreTrainedModel, cut: Callable[[list[Window], int], Iterator[Batch]], selection: str) -> Tensor:
    layers = select_layers(model, selection)
    projections = make_projections("random", layers, rank=8, seed=1)
    with capturing(model, layers, projections, batch_tokens=120) as capture:
        rows = torch.empty(len(windows()), projections.layout.width)
        for batch in cut(windows(), 120):
            rows[batch.order] = capture.run(batch)
    return rows


@pytest.mark.parametrize("selection", ["mlp", "all"])
def test_packed_rows_are_padded_rows(family: str, selection: str, make_model: MakeModel) -> None:
    model = make_model(family)
    assert can_pack(model) == (family not in UNPACKED)
    if family in UNPACKED:
        return
    for packed, padded in zip(rows_of(model, packs, selection), rows_of(model, batches, selection), strict=True):
        assert float((packed - padded).norm() / padded.norm()) < 1e-5


@pytest.mark.parametrize("cut", [batches, packs])
def test_losses_are_those_of_the_models_own_logits(
    family: str, cut: Callable[[list[Window], int], Iterator[Batch]], make_model: MakeModel
) -> None:
    model = make_model(family)
    if cut is packs and family in UNPACKED:
        return
    for batch in cut(windows(), 150):
        expected = torch.stack([own_loss(model, windows()[place]) for place in batch.order])
        torch.testing.assert_close(losses_backward(model, batch), expected, rtol=1e-5, atol=1e-5)


def test_a_head_that_does_more_than_multiply_is_noticed(family: str, make_model: MakeModel) -> None:
    model = make_model(family)
    assert has_plain_head(model) == (family not in ("cohere", "granite", "gemma2", "opt"))


def test_the_chunks_of_logits_change_nothing(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    whole = rows_of(model, packs, "all")
    monkeypatch.setattr(losses, "CHUNK", {"cpu": 7})
    assert float((rows_of(model, packs, "all") - whole).norm() / whole.norm()) < 1e-6


def test_an_attention_of_its_own_is_left_alone(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.config._attn_implementation = "flash_attention_2"
    assert not can_pack(model)


def test_a_sliding_window_that_attention_is_not_told_of_is_not_packed(make_model: MakeModel) -> None:
    model = make_model("gemma3")
    for module in model.modules():
        if hasattr(module, "sliding_window"):
            module.sliding_window = None  # what such a model hands on; its masks are made from the configuration
    model.config.sliding_window = 40  # longer than the trial, and shorter than documents
    assert not can_pack(model)
    model.config.layer_types = ["full_attention"] * 2
    assert can_pack(copy.copy(model))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_attention_is_put_back(make_model: MakeModel, attention: str) -> None:
    model = make_model("llama")
    model.set_attn_implementation(attention)
    assert can_pack(model)
    with pytest.raises(RuntimeError, match="broken"), packed_attention(model, Packing.of([3, 2])):
        raise RuntimeError("broken")
    assert model.config._attn_implementation == attention


def test_a_model_that_mixes_its_tokens_elsewhere_is_not_packed(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.model.norm.register_forward_hook(lambda _, __, output: output + 1e-6 * output.roll(1, dims=1))
    assert not can_pack(model)


def test_the_backward_pass_ends_at_the_first_watched_layer(make_model: MakeModel) -> None:
    model = make_model("llama")
    asked: dict[str, bool] = {}
    for name in ("model.layers.0", "model.layers.1.self_attn", "model.layers.1"):
        model.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: asked.update(
                {name: (output[0] if isinstance(output, tuple) else output).requires_grad}
            )
        )
    layers = select_layers(model, "layers.1.mlp")
    with watching(model, layers, lambda _, activation: activation, lambda *_: None) as run:
        run(next(packs(windows(), 64)))
    assert asked == {"model.layers.0": False, "model.layers.1.self_attn": False, "model.layers.1": True}


@given(st.lists(st.integers(2, 40), min_size=1, max_size=20), st.integers(1, 100))
@settings(max_examples=50, deadline=None)
def test_every_token_is_packed_once_and_found_again(lengths: list[int], budget: int) -> None:
    asked = windows(tuple(lengths))
    places: list[int] = []
    for batch in packs(asked, budget):
        places += batch.order
        tokens = batch.input_ids[0]
        assert len(tokens) <= budget or len(batch.order) == 1
        assert batch.packing is not None
        again = torch.cat([run.unblock(run.block(tokens)) for run in batch.packing.runs])
        assert torch.equal(again, tokens)
        for windows_slice, (block,) in batch.blocks(batch.input_ids):
            for row, place in zip(block, batch.order[windows_slice], strict=True):
                ids = asked[place].input_ids
                assert row[: len(ids)].tolist() == ids.tolist()
                assert not row[len(ids) :].any()
                assert len(ids) >= 0.75 * block.shape[1]
    assert sorted(places) == list(range(len(asked)))
