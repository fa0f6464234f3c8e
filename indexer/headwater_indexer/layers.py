"""Which linear layers of a model are watched, by the names that people give them."""

import fnmatch
import re
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headwater_indexer.errors import ModelError

# The parts of module paths that the families of transformers use for their two kinds of blocks.
_MLP = re.compile(r"(^|\.)(mlp|ffn|feed_forward|feedforward|fc1|fc2|block_sparse_moe|experts?)(\.|$)")
_ATTENTION = re.compile(r"(^|\.)(attn|attention|self_attn|self_attention)(\.|$)")
KEYWORDS = ("mlp", "attention", "all")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One watched weight matrix."""

    name: str  # its path in the model, as in state_dict
    in_dim: int
    out_dim: int


def select_layers(model: PreTrainedModel, selection: str = "mlp") -> list[Layer]:
    """The linear layers, in the model's order, that `selection` names.

    `mlp`, `attention` and `all` choose by kind (the output head is never watched: its gradient is as wide as the
    vocabulary). Anything else is a pattern, or several separated by commas: a regular expression that is searched in
    the layer's path, or a shell pattern such as `*.c_fc`.

    Raises ModelError, with the names that there are, when nothing matches.
    """
    candidates = {name: _dimensions(module) for name, module in _linear_modules(model).items()}
    chosen = [name for name in candidates if _matches(name, selection)]
    if not chosen:
        shown = ", ".join(list(candidates)[:8]) + (", ..." if len(candidates) > 8 else "")
        raise ModelError(
            f"--layers {selection!r} matches no linear layer of this {type(model).__name__}. "
            f"Choose mlp, attention, all, or a pattern over: {shown or '(it has no linear layers)'}"
        )
    return [Layer(name=name, in_dim=candidates[name][0], out_dim=candidates[name][1]) for name in chosen]


def _linear_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }


def _dimensions(module: nn.Module) -> tuple[int, int]:
    weight = module.get_parameter("weight")
    # transformers' Conv1D keeps its weight transposed: [in_dim, out_dim].
    first, second = int(weight.shape[0]), int(weight.shape[1])
    return (first, second) if isinstance(module, Conv1D) else (second, first)


def _matches(name: str, selection: str) -> bool:
    match selection:
        case "all":
            return True
        case "mlp":
            return _MLP.search(name) is not None
        case "attention":
            return _ATTENTION.search(name) is not None
    return any(_matches_pattern(name, pattern.strip()) for pattern in selection.split(",") if pattern.strip())


def _matches_pattern(name: str, pattern: str) -> bool:
    if pattern in KEYWORDS:
        return _matches(name, pattern)
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return fnmatch.fnmatchcase(name, pattern)
