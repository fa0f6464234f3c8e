"""The one place that loads a model: frozen, from safetensors alone, never with code of the repository."""

import contextlib
import hashlib
import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from headwater_indexer.adapters import Adapter, find_adapter
from headwater_indexer.errors import ConfigurationError, ModelError
from headwater_indexer.placement import BALANCED, QUANTISED, check_placement, keep_quantised, loading_options
from headwater_indexer.recomputing import recompute_blocks

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A frozen model with its tokenizer and what identifies both."""

    id: str  # an absolute path, or a name on the hub
    revision: str | None  # the commit on the hub; None for a folder
    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    dtype: str  # of the weights in memory: float32, bfloat16, float16, int8 or nf4
    weights_sha256: str
    tokenizer_sha256: str

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def max_length(self) -> int | None:
        """The longest sequence in tokens that the model has positions for; None if it names none."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)


def load_checkpoint(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    gradient_checkpointing: bool = False,
) -> Checkpoint:
    """Loads model and tokenizer of a folder or of a name on the hub; an adapter with the model that it names.

    `device` auto is the GPU if there is one, and `balanced` all of them; `dtype` auto is the checkpoint's own on a GPU
    and float32 on the CPU, int8 and nf4 quantise it. Raises ModelError when the model or its tokenizer is missing, is
    no causal language model, or needs remote code, and MissingPackage where a package is.
    """
    chosen = choose_device(device)
    adapter = find_adapter(model, revision)
    base, base_revision = (model, revision) if adapter is None else (adapter.base, adapter.base_revision)
    config = _explained(base, "configuration", lambda: AutoConfig.from_pretrained(base, revision=base_revision))
    tokenizer = _load_tokenizer(model, revision) if adapter is None else _adapters_tokenizer(adapter)
    loaded = _load_model(base, base_revision, config, dtype, device, chosen)
    if adapter is not None:
        _explained(model, "weights", lambda: adapter.add_to(loaded))
    loaded.eval().requires_grad_(False)
    if gradient_checkpointing:
        recompute_blocks(loaded)
    return Checkpoint(
        id=str(Path(model).resolve()) if Path(model).is_dir() else model,
        revision=getattr(config, "_commit_hash", None) or revision if adapter is None else revision,
        model=loaded,
        tokenizer=tokenizer,
        dtype=dtype if dtype in QUANTISED else str(loaded.dtype).removeprefix("torch."),
        weights_sha256=hash_weights(loaded),
        tokenizer_sha256=hash_tokenizer(tokenizer),
    )


def _load_model(
    model: str, revision: str | None, config: PretrainedConfig, dtype: str, device: str, chosen: torch.device
) -> PreTrainedModel:
    options = loading_options(config, dtype, device, chosen)
    loaded = _explained(
        model,
        "weights",
        lambda: AutoModelForCausalLM.from_pretrained(
            model,
            revision=revision,
            config=config,
            dtype=_choose_dtype(dtype, chosen),
            use_safetensors=True,
            **options,
        ),
    )
    if "device_map" not in options:
        loaded.to(chosen)
    model_there: PreTrainedModel = loaded
    check_placement(model_there)
    keep_quantised(model_there)
    return model_there


def quiet_loading() -> None:
    """For commands: libraries' advice is left out (what matters of it is an error of ours), and their bars in logs."""
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()


def choose_device(device: str) -> torch.device:
    """The named device; for `auto` and `balanced` the first GPU, else the CPU.

    Raises ConfigurationError when it is not there.
    """
    if device in ("auto", BALANCED):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"--device {device}: {_first_line(error)}. Choose auto, cpu, cuda or {BALANCED}."
        ) from error
    return chosen


def _choose_dtype(dtype: str, device: torch.device) -> torch.dtype | str:
    if dtype == "auto" or dtype in QUANTISED:
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype not in DTYPES:
        raise ConfigurationError(f"--dtype {dtype}: choose auto, {', '.join((*DTYPES, *QUANTISED))}")
    return DTYPES[dtype]


def _load_tokenizer(model: str, revision: str | None) -> PreTrainedTokenizerBase:
    way_out = f"Save it beside the weights: tokenizer.save_pretrained({model!r})"
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model, revision=revision)
        pieces = len(tokenizer("a")["input_ids"])
    except Exception as error:
        raise ModelError(f"{model} has no tokenizer that can be loaded ({_first_line(error)}). {way_out}") from error
    if not pieces or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"{model} has no tokenizer: the one that its configuration names is empty. {way_out}")
    return tokenizer


def _adapters_tokenizer(adapter: Adapter) -> PreTrainedTokenizerBase:
    """Its own where it brings one, as after training with new tokens; else its base model's."""
    try:
        return _load_tokenizer(adapter.id, adapter.revision)
    except ModelError:
        return _load_tokenizer(adapter.base, adapter.base_revision)


def _explained(model: str, part: str, load: Any) -> Any:
    try:
        return load()
    except Exception as error:
        hint = ""
        if "trust_remote_code" in str(error) or "auto_map" in str(error):
            hint = " Headwater never runs code that comes with a checkpoint; convert it to a transformers architecture."
        elif "safetensors" in str(error):
            hint = " Headwater reads safetensors only; save it again with save_pretrained()."
        elif not Path(model).exists():
            hint = " There is no such folder, and the hub did not give it; check the name and the network."
        raise ModelError(f"The {part} of model {model} cannot be loaded: {_first_line(error)}.{hint}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, so that it does not depend on files or shards."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over all that decides which ids a text becomes, and over the chat template."""
    rules: Any = sorted(tokenizer.get_vocab().items())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    with contextlib.suppress(Exception):
        rules = json.loads(backend.to_str()) if backend is not None else rules
        # Padding and truncation are set by each call and say nothing about the vocabulary.
        rules.pop("padding", None), rules.pop("truncation", None)
    described = json.dumps(
        [rules, tokenizer.special_tokens_map, tokenizer.chat_template], sort_keys=True, default=str, ensure_ascii=True
    )
    return hashlib.sha256(described.encode()).hexdigest()
