"""Experts that keep their matrices in one parameter [experts, ...], run one by one so that each can be watched.

transformers runs such experts in fused products that no hook sees into. While they are watched, the function here takes
their place: an expert is two linear layers, of which each sees the tokens that are routed to it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

NAME = "headwater_watched"
# Called with a matrix's input and output, [routed, ...], and the places of the routed tokens in the flattened batch.
OnRouted = Callable[[Float[Tensor, "routed in_dim"], Float[Tensor, "routed out_dim"], Int64[Tensor, " routed"]], None]
_watchers: WeakKeyDictionary[nn.Module, Mapping[str, OnRouted]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class ExpertMatrix:
    """One expert's slice of a parameter."""

    module: str  # the path of the module that has all the experts
    part: str  # the parameter's name and the expert's number: "down_proj.3"
    in_dim: int
    out_dim: int

    @property
    def name(self) -> str:
        return f"{self.module}.{self.part}"


def has_fused_experts(module: Any) -> bool:
    """Whether these are experts in transformers' common form, for which it takes another's forward pass."""
    return all(hasattr(module, name) for name in ("_apply_gate", "is_transposed", "has_post_expert_norm"))


def expert_matrices(path: str, module: Any) -> Iterator[ExpertMatrix]:
    """The matrices of the experts in this module, expert by expert; none where there are none."""
    if not has_fused_experts(module):
        return
    for expert in range(module.num_experts):
        for parameter in (_first(module), "down_proj"):
            second, last = module.get_parameter(parameter).shape[1:]
            in_dim, out_dim = (second, last) if module.is_transposed else (last, second)
            yield ExpertMatrix(module=path, part=f"{parameter}.{expert}", in_dim=in_dim, out_dim=out_dim)


@contextmanager
def watching_experts(model: PreTrainedModel, watchers: Mapping[str, OnRouted]) -> Iterator[None]:
    """Calls the watchers, by the names of the experts' matrices, in every forward pass within the `with`."""
    watched: dict[Any, Mapping[str, OnRouted]] = {
        module: own
        for path, module in model.named_modules()
        if (own := {m.part: watchers[m.name] for m in expert_matrices(path, module) if m.name in watchers})
    }
    configs = {id(module.config): module.config for module in watched}
    before = {key: config._experts_implementation for key, config in configs.items()}
    _watchers.update(watched)
    try:
        for config in configs.values():
            config._experts_implementation = NAME
        yield
    finally:
        for key, config in configs.items():
            config._experts_implementation = before[key]
        for module in watched:
            _watchers.pop(module, None)


def _run_one_by_one(
    module: Any,
    hidden_states: Float[Tensor, "tokens width"],
    top_k_index: Int64[Tensor, "tokens top_k"],
    top_k_weights: Float[Tensor, "tokens top_k"],
) -> Float[Tensor, "tokens width"]:
    """What the module's own forward pass gives, expert by expert."""
    result = torch.zeros_like(hidden_states)
    for expert in top_k_index.unique().tolist():
        if expert >= module.num_experts:
            continue  # the mark of a token that another machine's experts take
        tokens, slots = torch.where(top_k_index == expert)
        inner = _multiply(module, _first(module), expert, hidden_states[tokens], tokens)
        inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
        outer = _multiply(module, "down_proj", expert, inner, tokens)
        if module.has_post_expert_norm:
            outer = module.post_expert_norm(outer)
        weighted = outer * top_k_weights[tokens, slots, None]
        result = result.index_add(0, tokens, weighted.to(result.dtype))
    return result


ALL_EXPERTS_FUNCTIONS.register(NAME, _run_one_by_one)


def _multiply(
    module: Any, parameter: str, expert: int, inputs: Float[Tensor, "routed in_dim"], tokens: Int64[Tensor, " routed"]
) -> Float[Tensor, "routed out_dim"]:
    weight = getattr(module, parameter)[expert]
    bias = getattr(module, f"{parameter}_bias")[expert] if module.has_bias else None
    output = functional.linear(inputs, weight.T if module.is_transposed else weight, bias)
    watcher = _watchers.get(module, {}).get(f"{parameter}.{expert}")
    if watcher is not None:
        watcher(inputs, output, tokens)
    return output


def _first(module: Any) -> str:
    return "gate_up_proj" if module.has_gate else "up_proj"
