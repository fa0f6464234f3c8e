"""The demo's training really trains, and saves what the indexer can load."""

import json
from pathlib import Path

import torch
import train

from headwater_indexer.checkpoint import load_checkpoint


def test_the_loss_falls_and_the_model_loads(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    texts = [f"the river {number} feeds the lake and the lake feeds river {number + 1}" for number in range(60)]
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    torch.manual_seed(0)
    tokenizer = train.train_tokenizer(texts, vocabulary=300)
    model = train.new_model(tokenizer, width=32, layers=1, length=32)
    losses = train.train(model, train.pack(texts, tokenizer, 32), steps=400, batch=4, seed=0)
    assert losses[-1] < 0.6 * losses[0]
    train.main(corpus, tmp_path / "model", steps=2, width=32, layers=1, vocabulary=300, length=32)
    checkpoint = load_checkpoint(str(tmp_path / "model"))
    assert checkpoint.max_length == 32
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer(texts[0])["input_ids"]) == texts[0]
    said = [{"role": "user", "content": "the river"}]
    assert checkpoint.tokenizer.apply_chat_template(said, tokenize=False) == "the river"  # gone on with, as trained
