"""Which linear layers of a model are watched, by the names that people give them."""

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headwater_indexer.errors import ModelError
from headwater_indexer.experts import expert_matrices
from headwater_indexer.unwatched import is_adapter, linear_modules, refused_layers

# The parts of module paths that the families of transformers use for their two kinds of blocks.
_MLP = re.compile(r"(^|\.)(mlp|ffn|feed_forward|feedforward|fc1|fc2|block_sparse_moe|experts?|shared_experts?)(\.|$)")
_ATTENTION = re.compile(r"(^|\.)(attn|attention|self_attn|self_attention)(\.|$)")
KEYWORDS: dict[str, Callable[[str], object]] = {
    "mlp": _MLP.search,
    "attention": _ATTENTION.search,
    "all": lambda _: True,
}
BASE = "base:"  # before a keyword: the layers under an adapter, in place of the adapter's own


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One watched weight matrix."""

    name: str  # its path in the model, as in state_dict; one of many experts has its number at the end
    in_dim: int
    out_dim: int


def select_layers(model: PreTrainedModel, selection: str = "mlp") -> list[Layer]:
    """The linear layers, in the model's order, that `selection` names.

    `mlp`, `attention` and `all` choose by kind (the output head is never watched: its gradient is as wide as the
    vocabulary). In a model with an adapter they choose among the adapter's matrices, and after `base:` among those of
    the model under it. Anything else is a pattern: a regular expression that is searched in the layer's path, or a
    shell pattern such as `*.c_fc`. Several are separated by commas; one with a ! before it leaves layers out.

    Raises ModelError with the layer's name when one that a keyword takes in cannot be watched, or all that a pattern
    takes in, and with the names that there are when nothing is left.
    """
    candidates = watchable_layers(model)
    refused = refused_layers(model)
    adapted = any(is_adapter(name) for name in candidates)
    wanted, unwanted = _parts(selection)
    chosen: set[str] = set()
    for part in wanted:
        taken = {name for name in candidates if _matches(name, part, adapted)}
        _check(part, taken, {n: why for n, why in refused.items() if _of_kind(n, part)}, unwanted)
        chosen |= taken
    found = [layer for name, layer in candidates.items() if name in chosen and not _left_out(name, unwanted)]
    if not found:
        raise ModelError(_nothing(model, selection, [n for n in candidates if is_adapter(n) == adapted], adapted))
    return found


def watchable_layers(model: PreTrainedModel) -> dict[str, Layer]:
    """All layers that can be watched, by name: an adapter's as well as those of the model under it."""
    linear = linear_modules(model)
    found: dict[str, Layer] = {}
    for name, module in model.named_modules():
        if name in linear:
            in_dim, out_dim = _dimensions(linear[name])
            found[name] = Layer(name=name, in_dim=in_dim, out_dim=out_dim)
        for matrix in expert_matrices(name, module):
            found[matrix.name] = Layer(name=matrix.name, in_dim=matrix.in_dim, out_dim=matrix.out_dim)
    return found


def _dimensions(module: nn.Linear | Conv1D) -> tuple[int, int]:
    if not isinstance(module, Conv1D):  # the weight of a quantised layer has another shape than it stands for
        return module.in_features, module.out_features
    first, second = module.weight.shape  # transformers' Conv1D keeps its weight transposed: [in_dim, out_dim]
    return int(first), int(second)


def _parts(selection: str) -> tuple[list[str], list[str]]:
    """The keywords and patterns of a selection, and those that leave out."""
    parts = [part.strip() for part in selection.split(",") if part.strip()]
    unwanted = [part[1:].strip() for part in parts if part.startswith("!")]
    return [part for part in parts if not part.startswith("!")], unwanted


def _matches(name: str, part: str, adapted: bool) -> bool:
    if part.removeprefix(BASE) not in KEYWORDS:
        return _matches_pattern(name, part)
    return _of_kind(name, part) and is_adapter(name) == (adapted and not part.startswith(BASE))


def _of_kind(name: str, part: str) -> bool:
    keyword = KEYWORDS.get(part.removeprefix(BASE))
    return _matches_pattern(name, part) if keyword is None else keyword(name) is not None


def _matches_pattern(name: str, pattern: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return fnmatch.fnmatchcase(name, pattern)


def _left_out(name: str, unwanted: list[str]) -> bool:
    return any(_matches_pattern(name, pattern) for pattern in unwanted)


def _check(part: str, taken: set[str], refused: Mapping[str, str], unwanted: list[str]) -> None:
    """A keyword promises all layers of a kind; a pattern may pass over what cannot be watched if it finds others."""
    promised = part.removeprefix(BASE) in KEYWORDS or not taken
    for name, reason in refused.items():
        if promised and not _left_out(name, unwanted):
            raise ModelError(
                f"--layers {part!r} takes in {name}, which cannot be watched: {reason}. Leave it out, as in "
                f"--layers '{part}, !{re.escape(name.rpartition('.')[2])}$'"
            )


def _nothing(model: PreTrainedModel, selection: str, names: list[str], adapted: bool) -> str:
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    whose = f"the adapter of this {type(model).__name__}" if adapted else f"this {type(model).__name__}"
    base = f", {BASE}mlp and the like for the model under it" if adapted else ""
    return (
        f"--layers {selection!r} matches no linear layer of {whose}. "
        f"Choose mlp, attention, all{base}, or a pattern over: {shown or '(it has no linear layers)'}"
    )
