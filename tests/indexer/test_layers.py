"""Which layers each selection takes, in the families' own names."""

from collections.abc import Callable

import pytest
from transformers import PreTrainedModel

from headwater_indexer.errors import ModelError
from headwater_indexer.layers import select_layers

MakeModel = Callable[..., PreTrainedModel]


@pytest.mark.parametrize(
    ("family", "mlp", "attention", "everything"),
    [("gpt2", 4, 4, 8), ("llama", 6, 8, 14), ("qwen2", 6, 8, 14), ("gpt-neox", 4, 4, 8), ("gemma", 6, 8, 14)],
)
def test_kinds_of_layers(make_model: MakeModel, family: str, mlp: int, attention: int, everything: int) -> None:
    model = make_model(family)
    assert len(select_layers(model)) == mlp
    assert len(select_layers(model, "attention")) == attention
    assert len(select_layers(model, "all")) == everything


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
