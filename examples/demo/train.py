"""The demo's model: a byte-level BPE tokenizer and a small GPT-2, trained on the demo's corpus from random weights.

The number of steps is fixed and every draw is seeded, so that the same corpus gives the same model on the same machine
however busy it is. Run alone:

    python examples/demo/train.py --corpus corpus.jsonl --out model
"""

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

END = "<|endoftext|>"
VOCABULARY = 2048  # the output layer is a third of the work at 4096
POSITIONS = 256
WIDTH = 128
LAYERS = 4
STEPS = 1300
BATCH = 4  # blocks of POSITIONS tokens
LEARNING_RATE = 1e-3
WARM_UP = 100  # steps
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"  # what is said is gone on with, as trained


def read_texts(corpus: Path) -> list[str]:
    with corpus.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def train_tokenizer(texts: list[str], vocabulary: int = VOCABULARY) -> Any:
    """A tokenizer of the corpus' own words; no text is outside of it, since every byte is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=POSITIONS
    )
    fast.chat_template = CHAT
    return fast


def pack(texts: list[str], tokenizer: Any, length: int) -> Tensor:
    """All documents one after another, an end token after each, cut into blocks: no step is spent on padding."""
    end = tokenizer.eos_token_id
    stream = [token for ids in tokenizer(texts)["input_ids"] for token in [*ids, end]]
    blocks = max(1, len(stream) // length)
    stream = (stream * math.ceil(length / len(stream)))[: blocks * length]  # a tiny corpus is repeated to fill one
    return torch.tensor(stream).view(blocks, length)  # (blocks, length)


def new_model(tokenizer: Any, *, width: int, layers: int, length: int) -> GPT2LMHeadModel:
    """A GPT-2 with random weights. No dropout: the gradients that are attributed are those of the model as trained."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=length,
        n_embd=width,
        n_layer=layers,
        n_head=max(1, width // 32),
        activation_function="gelu_pytorch_tanh",  # GPT-2's own gelu_new as one fused operation
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)


def train(model: GPT2LMHeadModel, blocks: Tensor, *, steps: int, batch: int, seed: int) -> list[float]:
    """AdamW with warm-up and a cosine decay to zero; returns each step's mean loss in nats per token."""
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True)
    warm_up = min(WARM_UP, steps // 5 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps)),
    )
    losses: list[float] = []
    order = torch.empty(0, dtype=torch.long)
    model.train()
    with tqdm(total=steps, desc="train", unit=" steps", mininterval=0.2 if sys.stderr.isatty() else 10) as bar:
        for _ in range(steps):
            while len(order) < batch:  # a new epoch, in a new order
                order = torch.cat([order, torch.randperm(len(blocks), generator=draws)])
            chosen, order = blocks[order[:batch]], order[batch:]
            loss = model(input_ids=chosen, labels=chosen).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            bar.set_postfix(loss=f"{losses[-1]:.2f}", refresh=False)
            bar.update()
    model.eval()
    return losses


def main(
    corpus: Annotated[Path, typer.Option(help="A JSONL file of documents with a field `text`.")],
    out: Annotated[Path, typer.Option(help="The folder that gets config, safetensors and tokenizer.")],
    steps: Annotated[int, typer.Option(help="Steps of the optimizer.", min=1)] = STEPS,
    width: Annotated[int, typer.Option(help="Width of the model.", min=8)] = WIDTH,
    layers: Annotated[int, typer.Option(help="Layers of the model.", min=1)] = LAYERS,
    vocabulary: Annotated[int, typer.Option(help="Tokens that the tokenizer learns.", min=300)] = VOCABULARY,
    length: Annotated[int, typer.Option(help="Tokens that the model sees at once.", min=16)] = POSITIONS,
    batch: Annotated[int, typer.Option(help="Blocks of text in a step.", min=1)] = BATCH,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the order of the blocks.")] = 0,
) -> None:
    """Train the tokenizer and the model, and save both as transformers reads them."""
    logging.set_verbosity_error()  # advice about padding: nothing is padded here
    texts = read_texts(corpus)
    tokenizer = train_tokenizer(texts, vocabulary)
    tokenizer.model_max_length = length
    blocks = pack(texts, tokenizer, length)
    torch.manual_seed(seed)
    model = new_model(tokenizer, width=width, layers=layers, length=length)
    seen = steps * batch * length / blocks.numel()
    weights = sum(weight.numel() for weight in model.parameters())
    typer.echo(f"{weights:,} weights, {blocks.numel():,} tokens, seen {seen:.1f} times", err=True)
    losses = train(model, blocks, steps=steps, batch=batch, seed=seed)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    typer.echo(f"loss {losses[0]:.2f} -> {losses[-1]:.2f} nats per token", err=True)


if __name__ == "__main__":
    typer.run(main)
