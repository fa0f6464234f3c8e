"""Which weights of a model can be watched and which cannot, and why: told by name, before a build begins."""

import re
from collections import Counter
from typing import TypeGuard

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headwater_indexer.experts import has_fused_experts

LINEAR = (nn.Linear, Conv1D)
QUANTISED = ("Linear8bitLt", "Linear4bit", "LinearNF4", "LinearFP4")  # of bitsandbytes: linear in what they are given
_ADAPTER = re.compile(r"\.lora_[AB]\.")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_adapter(name: str) -> bool:
    """Whether the layer is one of LoRA's two matrices, by the names that peft gives them."""
    return _ADAPTER.search(name) is not None


def linear_modules(model: PreTrainedModel) -> dict[str, nn.Linear | Conv1D]:
    """The modules whose output is their weight times their input, by name, without the head."""
    passed_over, uses = _passed_over(model), _uses(model)
    return {
        name: module
        for name, module in model.named_modules()
        if module not in passed_over and _is_linear(module) and _reason(module, uses) is None
    }


def refused_layers(model: PreTrainedModel) -> dict[str, str]:
    """The modules with weight matrices that cannot be watched, with the reason.

    Embeddings, the head, norms, biases and routers are no linear layers, and nobody expects them among these.
    """
    passed_over, uses = _passed_over(model), _uses(model)
    found = {}
    for name, module in model.named_modules():
        if module not in passed_over and (reason := _reason(module, uses)) is not None:
            found[name] = reason
    return found


def _uses(model: PreTrainedModel) -> Counter[int]:
    """How many modules hold each weight."""
    return Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))


def _passed_over(model: PreTrainedModel) -> set[nn.Module]:
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    inside = {module for end in ends if end is not None for module in end.modules()}
    # An embedding's adapter is two matrices that are looked up in, as the embedding is.
    looked_up = {
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or ".lora_embedding_" in name or name.endswith("original_module")
    }
    return inside | looked_up


def _reason(module: nn.Module, uses: Counter[int]) -> str | None:
    """Why the module cannot be watched; None where it can, or holds nothing to watch."""
    kind = type(module).__name__
    if _is_linear(module):
        if any(uses[id(weight)] > 1 for weight in module.parameters(recurse=False) if weight.dim() > 1):
            return "its weight is shared with another module (tied), and it sees only a part of the gradient"
        return None
    if isinstance(module, _CONVOLUTIONS):
        return f"it is a convolution ({kind}), not a linear layer"
    if has_fused_experts(module) or _is_router(module):
        return None
    if variants := getattr(module, "lora_variant", None):
        kind = type(next(iter(variants.values()))).__name__
        return f"its adapter is a variant of LoRA ({kind}) with arithmetic of its own"
    if any(weight.dim() > 1 for weight in module.parameters(recurse=False)):
        return f"it is a {kind}, a module with weights of its own whose arithmetic is not known here"
    if hasattr(module, "in_features") and not any(module.children()):
        return f"it is a {kind}, a linear layer in a form that is not known here"
    return None


def _is_linear(module: nn.Module) -> TypeGuard[nn.Linear | Conv1D]:
    """A class of its own may do more in its forward pass than multiply: a trial tells."""
    if not isinstance(module, LINEAR):
        return False
    kind = type(module)
    known = kind.forward in (nn.Linear.forward, Conv1D.forward) or kind.__name__ in QUANTISED
    return known or (isinstance(module, nn.Linear) and _multiplies(module))


def _multiplies(module: nn.Linear) -> bool:
    """Whether two tokens come out of the module as they come out of its weight and bias."""
    tokens = torch.linspace(-1, 1, 2 * module.in_features).view(1, 2, -1).to(module.weight)
    try:
        with torch.no_grad():
            output, expected = module(tokens), functional.linear(tokens, module.weight, module.bias)
    except (RuntimeError, TypeError, ValueError):
        return False  # a form of weight that torch does not multiply by
    return isinstance(output, torch.Tensor) and output.shape == expected.shape and torch.allclose(output, expected)


def _is_router(module: nn.Module) -> bool:
    """Chooses experts by a small matrix with a row for each."""
    return re.search(r"Router|Gate$|Gating", type(module).__name__) is not None
