"""The self-test: true of models whose rows are their own, and loud about one whose rows are not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

from headwater_indexer import checkpoint as loading
from headwater_indexer.check_model import check_model
from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.cli import app
from headwater_indexer.errors import ModelError
from headwater_indexer.layers import select_layers
from headwater_indexer.moments import moments_bytes

MakeModel = Callable[..., PreTrainedModel]
MakeCheckpoint = Callable[[str], Checkpoint]


@pytest.fixture
def make_checkpoint(make_model: MakeModel, tokenizer: PreTrainedTokenizerFast) -> MakeCheckpoint:
    def make(family: str) -> Checkpoint:
        return Checkpoint(
            id=family,
            revision=None,
            model=make_model(family),
            tokenizer=tokenizer,
            dtype="float32",
            weights_sha256="",
            tokenizer_sha256="",
        )

    return make


def mix_the_batch(checkpoint: Checkpoint) -> Checkpoint:
    """Every token sees a little of the other windows in its batch."""
    norm = checkpoint.model.model.norm
    norm.register_forward_hook(lambda _, __, output: output + 0.01 * output.mean(dim=(0, 1), keepdim=True))
    return checkpoint


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gemma3", "mixtral", "gpt-oss", "opt"])
def test_rows_of_real_families_are_their_own(make_checkpoint: MakeCheckpoint, family: str) -> None:
    report = check_model(make_checkpoint(family))
    assert report.independent
    assert report.refused == {}
    in_use, *others = report.kernels
    assert in_use.in_use
    assert not any(kernel.in_use for kernel in others)
    assert in_use.packed
    assert in_use.name == ("eager" if family in ("gemma2", "gpt-oss") else "sdpa")
    assert {kernel.name for kernel in report.kernels} == {"eager", "sdpa", "flex_attention", "flash_attention_2"}
    for kernel in report.kernels:
        assert kernel.failure is not None or kernel.largest < 1e-5


def test_the_models_attention_is_put_back(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint("llama")
    check_model(checkpoint)
    assert checkpoint.model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks for module in checkpoint.model.modules())


def test_layers_are_told_by_keyword_with_their_dimensions(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint("mixtral")
    report = check_model(checkpoint)
    mlp, attention, everything = report.kinds
    assert [(shape.path, shape.count, shape.in_dim, shape.out_dim) for shape in mlp.shapes] == [
        ("model.layers.*.mlp.experts.gate_up_proj.*", 8, 32, 96),
        ("model.layers.*.mlp.experts.down_proj.*", 8, 48, 32),
    ]
    assert mlp.moments_bytes + attention.moments_bytes == everything.moments_bytes
    assert mlp.moments_bytes == moments_bytes(select_layers(checkpoint.model, "mlp"))


def test_what_would_be_refused_is_told_and_the_rest_is_measured(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint("llama")
    checkpoint.model.model.layers[0].mlp.add_module("filter", nn.Conv1d(32, 32, 3))
    report = check_model(checkpoint)
    assert report.independent
    assert "convolution" in report.refused["model.layers.0.mlp.filter"]
    assert [(kind.keyword, kind.refused is not None) for kind in report.kinds] == [
        ("mlp", True),
        ("attention", False),
        ("all", True),
    ]


def test_rows_that_depend_on_their_batch_are_found(make_checkpoint: MakeCheckpoint) -> None:
    report = check_model(mix_the_batch(make_checkpoint("llama")))
    assert not report.independent
    in_use = report.kernels[0]
    assert not in_use.packed  # the trial before packing saw it too
    assert min(in_use.beside_others or 0, in_use.with_padding or 0) > 1e-3


def test_layers_that_do_not_exist_are_an_error(make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(ModelError, match="'feed' matches no linear layer"):
        check_model(make_checkpoint("llama"), "feed")


def test_the_command_prints_tables_and_json(checkpoint_folder: Path) -> None:
    told = CliRunner().invoke(app, ["check-model", str(checkpoint_folder), "--device", "cpu"])
    assert told.exit_code == 0, told.output
    assert "Rows do not depend on their batch (tolerance 0.0001 of a row's length)." in told.output
    assert "transformer.h.*.mlp.c_fc" in told.output
    found = json.loads(
        CliRunner().invoke(app, ["check-model", str(checkpoint_folder), "--device", "cpu", "--json"]).stdout
    )
    assert (found["architecture"], found["independent"], found["longest_window"]) == ("GPT2LMHeadModel", True, 64)
    assert found["kernels"][0]["with_padding"] < 1e-5


def test_the_commands_status_is_1_when_rows_depend_on_their_batch(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixing = replace(mix_the_batch(make_checkpoint("llama")), id="mixing")
    monkeypatch.setattr(loading, "load_checkpoint", lambda *_, **__: mixing)
    told = CliRunner().invoke(app, ["check-model", "mixing"])
    assert told.exit_code == 1
    assert "Rows DEPEND on their batch, beyond 0.0001 of their length" in told.output
