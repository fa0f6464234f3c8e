"""Attention that sees the windows of a packed row apart: each run of nearly equal windows as one padded block."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from headwater_indexer.packing import Packing

# The name under which transformers finds the packed form of each attention.
PACKED = {"sdpa": "headwater_packed", "eager": "headwater_packed_eager"}
PROBE_LENGTHS = (7, 6, 3)  # two that share a block and one apart
_packable: WeakKeyDictionary[PreTrainedModel, dict[str, bool]] = WeakKeyDictionary()  # for each attention


def attend(
    module: Any,
    query: Float[Tensor, "1 heads tokens head_dim"],
    key: Float[Tensor, "1 heads tokens head_dim"],
    value: Float[Tensor, "1 heads tokens head_dim"],
    _: None,  # no mask: see below
    *,
    packing: Packing,
    sliding_window: int | None = None,
    slid: set[int | None] | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "1 tokens heads head_dim"], None]:
    """What PyTorch's attention gives for each window alone. Padding comes last in its block: no token sees it.

    The sliding windows that the model hands on are noted in `slid`.
    """
    if slid is not None:
        slid.add(sliding_window)

    def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mask = _window_mask(query.shape[-2], sliding_window, query.device)
        return sdpa_attention_forward(module, query, key, value, mask, **options)[0]

    return _by_blocks(packing, query, key, value, attended), None


def attend_eagerly(
    module: Any, query: Tensor, key: Tensor, value: Tensor, _: None, *, packing: Packing, **options: Any
) -> tuple[Float[Tensor, "1 tokens heads head_dim"], None]:
    """The same by the model's own attention, which may do more: soft caps on its logits (Gemma 2), sinks (gpt-oss)."""
    own = sys.modules[type(module).__module__].eager_attention_forward
    window = options.pop("sliding_window", None)
    if (slid := options.pop("slid", None)) is not None:
        slid.add(window)

    def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        length = query.shape[-2]
        seen = _visible(length, length if window is None else window, query.device)
        mask = torch.zeros(seen.shape, dtype=query.dtype, device=query.device)
        output: Tensor = own(
            module, query, key, value, mask.masked_fill(~seen, torch.finfo(query.dtype).min), **options
        )[0]
        return output

    return _by_blocks(packing, query, key, value, attended), None


def _by_blocks(
    packing: Packing, query: Tensor, key: Tensor, value: Tensor, attended: Callable[..., Tensor]
) -> Float[Tensor, "1 tokens heads head_dim"]:
    by_token = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    blocks = ([run.block(tensor).transpose(1, 2) for tensor in by_token] for run in packing.runs)
    return torch.cat([run.unblock(attended(*block)) for run, block in zip(packing.runs, blocks, strict=True)])[None]


# No function for masks is registered with them, so that transformers makes none: a packed row needs no mask.
AttentionInterface.register(PACKED["sdpa"], attend)
AttentionInterface.register(PACKED["eager"], attend_eagerly)


@contextmanager
def packed_attention(model: PreTrainedModel, packing: Packing) -> Iterator[dict[str, Any]]:
    """Gives the arguments that a call of `model` on a packed row needs beside its inputs."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = PACKED[str(before)]
    try:
        yield {"packing": packing}
    finally:
        config._attn_implementation = before


def can_pack(model: PreTrainedModel) -> bool:
    """Whether packing changes nothing but the time. It takes an attention that transformers lets us replace, no other
    mixing of tokens, and positions that can be given; a trial on random tokens decides, once for each attention."""
    known = _packable.setdefault(model, {})
    attention = str(model.config._attn_implementation)
    if attention not in known:
        known[attention] = _looks_packable(model) and _packs_the_same(model)
    return known[attention]


def _looks_packable(model: PreTrainedModel) -> bool:
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ())
    return (
        config._attn_implementation in PACKED
        and not config.sub_configs
        and model._can_set_attn_implementation()
        and kinds <= {"full_attention", "sliding_attention"}
        and "position_ids" in inspect.signature(model.forward).parameters
    )


def _packs_the_same(model: PreTrainedModel) -> bool:
    """Whether each window's logits are what they are alone, and depend on the tokens of no other window at all."""
    draw = torch.Generator().manual_seed(0)
    vocabulary = len(model.get_input_embeddings().get_parameter("weight"))
    windows = [torch.randint(vocabulary, (1, length), generator=draw).to(model.device) for length in PROBE_LENGTHS]
    with torch.no_grad():
        alone = torch.cat([model(input_ids=window, use_cache=False).logits[0] for window in windows])
    packing = Packing.of(PROBE_LENGTHS).to(model.device)
    try:
        # The backward pass runs in here too: with gradient checkpointing it runs the attention again.
        with torch.enable_grad(), packed_attention(model, packing) as options:
            slid: set[int | None] = set()
            options |= {"position_ids": packing.position_ids, "slid": slid}
            logits, embedded = _trial(model, torch.cat(windows, dim=1), **options)
            return _hands_on_its_window(model, slid) and _close(logits, alone) and _apart(logits, embedded)
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError):
        return False  # a model that does not hand on what `attend` needs


def _hands_on_its_window(model: PreTrainedModel, slid: set[int | None]) -> bool:
    """The trial is shorter than most sliding windows, so that it would not miss one that only masks tell of."""
    config = model.config.get_text_config()
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    slides = window is not None and (kinds is None or "sliding_attention" in kinds)
    return not slides or window in slid


def _close(logits: Float[Tensor, "tokens vocabulary"], alone: Float[Tensor, "tokens vocabulary"]) -> bool:
    tolerance = 1e-4 if logits.dtype == torch.float32 else 5e-2
    return bool((logits - alone).abs().max() <= tolerance * alone.abs().max())


def _apart(logits: Float[Tensor, "tokens vocabulary"], embedded: Float[Tensor, "1 tokens width"]) -> bool:
    """Whether the logits of each window have no derivative at all at the tokens of the others."""
    stop = 0
    for length in PROBE_LENGTHS:
        start, stop = stop, stop + length
        (seen,) = torch.autograd.grad(logits[start:stop].sum(), embedded, retain_graph=True)
        if seen[0, :start].any() or seen[0, stop:].any():
            return False
    return True


def _trial(model: PreTrainedModel, packed_ids: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """The logits, and the embedded tokens that they can be derived by."""
    found: list[Tensor] = []

    def keep(_: Any, __: Any, output: Tensor) -> Tensor:
        found.append(output.detach().requires_grad_(True))
        return found[0]

    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        output = model(input_ids=packed_ids, use_cache=False, **options)
    finally:
        handle.remove()
    return output.logits[0], found[0]


def _window_mask(length: int, window: int | None, device: torch.device) -> Bool[Tensor, "1 1 time time"] | None:
    """None where the kernel's own causal mask is all that is needed."""
    return None if window is None or window >= length else _visible(length, window, device)


def _visible(length: int, window: int, device: torch.device) -> Bool[Tensor, "1 1 time time"]:
    """Which of the last `window` tokens, itself the last, each token sees."""
    places = torch.arange(length, device=device)
    distance = places[:, None] - places[None]
    return ((distance >= 0) & (distance < window))[None, None]
