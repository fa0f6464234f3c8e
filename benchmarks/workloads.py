"""What the speed benchmarks run: models of real configurations with random weights, and windows of random tokens."""

import json
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from headwater_indexer.windows import Window

CHARACTERS = 3  # in a token, about
Family = Literal["gpt2", "gpt2-small", "llama", "llama-1b"]

CONFIGS: dict[Family, PretrainedConfig] = {
    "gpt2": GPT2Config(n_layer=6, n_embd=384, n_head=6, n_positions=256),
    "gpt2-small": GPT2Config(
        vocab_size=4096, n_layer=4, n_embd=128, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=0
    ),
    "llama": LlamaConfig(
        num_hidden_layers=6,
        hidden_size=384,
        intermediate_size=1024,
        num_attention_heads=6,
        max_position_embeddings=256,
    ),
    # The shape of Llama 3.2 1B.
    "llama-1b": LlamaConfig(
        num_hidden_layers=16,
        hidden_size=2048,
        intermediate_size=8192,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128_256,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    ),
}


def make_model(family: Family, device: torch.device) -> PreTrainedModel:
    """Random weights; bfloat16 on a GPU."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIGS[family], dtype=dtype)
    nn.Module.to(model, device)  # transformers' own .to is typed as something else
    model.eval().requires_grad_(False)
    return model


def windows_of(lengths: Sequence[int], vocabulary: int, *, first_target: int = 1) -> list[Window]:
    """Random tokens, those from `first_target` on predicted."""
    draw = np.random.default_rng(0)
    return [
        Window(input_ids=draw.integers(vocabulary, size=length).astype(np.int32), first_target=first_target)
        for length in lengths
    ]


def mixed_lengths(count: int, longest: int) -> list[int]:
    """As documents' lengths are: log-normal, half of them below a third of the window, and the long ones cut."""
    draw = np.random.default_rng(1)
    lengths = np.exp(draw.normal(np.log(longest / 3), 0.9, size=count))
    return [int(length) for length in lengths.clip(8, longest)]


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE trained on Python's own sources, as the tokenizer of the model in `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_sources(1 << 20), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def write_corpus(path: Path, lengths: Sequence[int]) -> None:
    """JSON Lines: pieces of Python's own sources, of about these lengths in tokens."""
    text = "".join(_sources(CHARACTERS * sum(lengths)))
    start = 0
    with path.open("w", encoding="utf-8") as file:
        for length in lengths:
            stop = start + CHARACTERS * length
            while text[start:stop].isspace():
                start, stop = start + 1, stop + 1
            file.write(json.dumps({"text": text[start:stop]}) + "\n")
            start = stop % (len(text) - CHARACTERS * max(lengths))


def _sources(characters: int) -> Iterator[str]:
    """At least as many characters of the standard library, if it has them."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if characters <= 0:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        characters -= len(text)
        yield text
