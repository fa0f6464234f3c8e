"""Which layers each selection takes, in the families' own names."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from headwater_indexer.capture import capturing
from headwater_indexer.errors import ModelError
from headwater_indexer.layers import select_layers, watchable_layers
from headwater_indexer.projection import make_projections
from headwater_indexer.unwatched import refused_layers
from headwater_indexer.windows import Window

MakeModel = Callable[..., PreTrainedModel]


# For each family: how many layers `mlp`, `attention` and `all` watch in its two blocks.
COUNTS = {
    "gpt2": (4, 4, 8),
    "llama": (6, 8, 14),
    "llama-bias": (6, 8, 14),
    "qwen2": (6, 8, 14),
    "qwen3": (6, 8, 14),
    "gemma": (6, 8, 14),
    "gemma2": (6, 8, 14),
    "gemma3": (6, 8, 14),
    "mistral": (6, 8, 14),
    "gpt-neox": (4, 4, 8),
    "opt": (4, 8, 14),  # and project_in and project_out
    "phi": (4, 8, 12),
    "phi3": (4, 4, 8),
    "cohere": (6, 8, 14),
    "granite": (6, 8, 14),
    "mixtral": (16, 8, 24),  # two matrices for each of four experts
    "qwen2-moe": (24, 8, 32),  # and a shared expert of three with its gate
    "qwen3-moe": (16, 8, 24),
    "deepseek": (14, 10, 24),  # a dense block, and one of four experts and a shared one
    "falcon": (4, 4, 8),
    "gpt-oss": (16, 8, 24),
}


def test_kinds_of_layers(make_model: MakeModel, family: str) -> None:
    model = make_model(family)
    counts = tuple(len(select_layers(model, kind)) for kind in ("mlp", "attention", "all"))
    assert counts == COUNTS[family]
    assert list(watchable_layers(model)) == [layer.name for layer in select_layers(model, "all")]
    assert refused_layers(model) == {}


def test_dimensions_of_a_transposed_weight(make_model: MakeModel) -> None:
    layer = select_layers(make_model("gpt2"), "mlp.c_fc")[0]
    assert (layer.name, layer.in_dim, layer.out_dim) == ("transformer.h.0.mlp.c_fc", 32, 128)


@pytest.mark.parametrize("pattern", ["*.c_proj", r"\.c_proj$", "mlp.c_proj, attn.c_proj"])
def test_patterns(make_model: MakeModel, pattern: str) -> None:
    found = [layer.name for layer in select_layers(make_model("gpt2"), pattern)]
    assert found == [f"transformer.h.{n}.{block}.c_proj" for n in (0, 1) for block in ("attn", "mlp")]


def test_no_match_says_what_there_is(make_model: MakeModel) -> None:
    with pytest.raises(ModelError, match=r"'feed' matches no linear layer of this GPT2LMHeadModel.*h\.0\.attn\.c_attn"):
        select_layers(make_model("gpt2"), "feed")


def test_one_expert_by_name(make_model: MakeModel) -> None:
    layers = select_layers(make_model("mixtral"), r"layers.1.*\.3$")
    assert [(layer.name, layer.in_dim, layer.out_dim) for layer in layers] == [
        ("model.layers.1.mlp.experts.gate_up_proj.3", 32, 96),
        ("model.layers.1.mlp.experts.down_proj.3", 48, 32),
    ]


def test_layers_are_left_out_by_a_mark(make_model: MakeModel) -> None:
    names = [layer.name for layer in select_layers(make_model("llama"), r"all, !self_attn, !layers\.0, !up|down")]
    assert names == ["model.layers.1.mlp.gate_proj"]
    with pytest.raises(ModelError, match="matches no linear layer"):
        select_layers(make_model("llama"), "all, !proj")


class Scaled(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(inputs)


class Lookup(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(4, 32, 32), requires_grad=False)


class Spelled(nn.Linear):
    """A linear layer in other words, as Falcon has it."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        product = inputs @ self.weight.T
        return product if self.bias is None else product + self.bias


class ExpertsGate(nn.Linear):
    """A router, as Llama 4 and Phi have it: it gives scores and choices."""

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = super().forward(inputs)
        return scores, scores.argmax(dim=-1)


def test_classes_of_their_own_are_tried(make_model: MakeModel) -> None:
    model = make_model("llama")
    mlp = model.model.layers[1].mlp
    mlp.add_module("spelled", Spelled(32, 32))
    mlp.add_module("gate", ExpertsGate(32, 4))
    names = [layer.name for layer in select_layers(model, "mlp")]
    assert "model.layers.1.mlp.spelled" in names
    assert "model.layers.1.mlp.gate" not in names
    assert refused_layers(model) == {}


def tied(model: PreTrainedModel) -> nn.Module:
    linear = nn.Linear(32, 320, bias=False)
    linear.weight = model.get_input_embeddings().weight
    return linear


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda _: nn.Conv1d(32, 32, 3), r"it is a convolution \(Conv1d\)"),
        (lambda _: Scaled(32, 32), "it is a Scaled, a module with weights of its own"),
        (lambda _: Lookup(), "it is a Lookup, a module with weights of its own"),
        (tied, r"its weight is shared with another module \(tied\)"),
    ],
)
def test_what_cannot_be_watched_is_refused_by_name(
    make_model: MakeModel, made: Callable[[PreTrainedModel], nn.Module], reason: str
) -> None:
    model = make_model("llama")
    model.model.layers[1].mlp.add_module("extra", made(model))
    refusal = rf"takes in model\.layers\.1\.mlp\.extra, which cannot be watched: {reason}.*--layers '{{}}, !extra\$'"
    for selection in ("mlp", "all", "extra"):
        with pytest.raises(ModelError, match=refusal.format(selection)):
            select_layers(model, selection)
    assert len(select_layers(model, "mlp, !extra$")) == 6
    assert len(select_layers(model, "attention")) == 8  # it is no part of these
    assert len(select_layers(model, r"layers\.1\.")) == 7  # a pattern may pass over it


def test_an_expert_of_a_list_is_refused_as_it_sees_tokens_in_an_order_of_its_own(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.model.layers[0].mlp = Turning()
    layers = select_layers(model, "all")
    window = Window(input_ids=np.arange(9, dtype=np.int32), first_target=1)
    with (
        capturing(model, layers, make_projections("random", layers, rank=4, seed=1), batch_tokens=64) as capture,
        pytest.raises(ModelError, match=r"layer model\.layers\.0\.mlp\.experts\.0\.only works on tensors of shape"),
    ):
        capture([window])


class Turning(nn.Module):
    """An expert in a list, which is given all tokens, the last first."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.ModuleDict({"only": nn.Linear(32, 32)})]).requires_grad_(False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        turned: torch.Tensor = self.experts[0]["only"](states.flatten(0, 1).flip(0))
        return turned.flip(0).view_as(states)
