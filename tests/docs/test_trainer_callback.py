"""The rows that examples/trainer_callback.py catches while it trains are autograd's, at the weights of their step."""

import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from doc_blocks import ROOT
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

from headwater_indexer.store.shards import ShardStore

FILE = ROOT / "examples" / "trainer_callback.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("trainer_callback", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class KeepWeights(TrainerCallback):
    """The weights before each step."""

    def __init__(self):
        self.before = []

    def on_step_begin(self, args, state, control, model=None, **_):  # noqa: ARG002  the trainer's arguments
        self.before.append({name: weight.detach().clone() for name, weight in model.state_dict().items()})


def row_by_autograd(network, callback, ids):
    """The slow twin: the gradient of each watched weight, projected and whitened."""
    network.zero_grad()
    logits = network(input_ids=torch.tensor([ids])).logits[0]
    functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum").backward()
    weights = dict(network.named_parameters())
    parts = [
        # GPT-2's Conv1D keeps its weight as [in, out].
        (projection.output @ weights[f"{name}.weight"].grad.T @ projection.input.T).flatten()
        for name, projection in callback.projections.items()
    ]
    return callback.whiten(torch.cat(parts)[None])[0].detach().numpy()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_rows_are_autograds_at_the_weights_of_their_step(example, shelf, tmp_path, accumulation):
    network = AutoModelForCausalLM.from_pretrained(shelf / "my-model", attn_pdrop=0, embd_pdrop=0, resid_pdrop=0)
    tokenizer = AutoTokenizer.from_pretrained(shelf / "my-model")
    texts = ["The lambda is used", "The for loop is used to go through", "A class", "The decorator keeps a value in it"]
    sequences = [tokenizer(text)["input_ids"] for text in texts * 2]
    callback, weights = example.RowsWhileTraining(shelf / "my.index", tmp_path / "rows"), KeepWeights()
    arguments = TrainingArguments(
        tmp_path / "out",
        num_train_epochs=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=accumulation,
        learning_rate=0.01,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    data = [{"input_ids": ids, "labels": ids} for ids in sequences]
    Trainer(network, arguments, train_dataset=data, data_collator=example.padded, callbacks=[callback, weights]).train()

    rows = np.concatenate(list(ShardStore.open(tmp_path / "rows")))
    notes = [json.loads(line) for line in (tmp_path / "rows" / "rows.jsonl").read_text().splitlines()]
    steps = 4 // accumulation
    assert len(rows) == len(notes) == 8
    assert {note["weights_after_step"] for note in notes} == set(range(steps))
    rates = [note["learning_rate"] for note in notes]
    assert rates[0] == 0.01
    assert rates == sorted(rates, reverse=True)
    by_name = {example.name_of(ids): ids for ids in sequences}
    network.eval()
    for row, note in zip(rows, notes, strict=True):
        network.load_state_dict(weights.before[note["weights_after_step"]])
        twin = row_by_autograd(network, callback, by_name[note["tokens"]])
        assert np.allclose(row, twin, rtol=1e-3, atol=1e-4 * np.abs(twin).max())


def test_what_it_cannot_do_is_refused(example, shelf, tmp_path):
    callback = example.RowsWhileTraining(shelf / "my.index", tmp_path / "rows")
    arguments = TrainingArguments(tmp_path / "out", gradient_checkpointing=True, use_cpu=True)
    with pytest.raises(ValueError, match="without gradient checkpointing"):
        callback.on_train_begin(arguments, None, None)


@pytest.mark.slow
def test_the_example_runs(shelf, tmp_path):
    question = ["The lambda is used to", " name a function, as in example 12."]
    paths = [shelf / "my-model", shelf / "corpus.jsonl", shelf / "my.index", tmp_path / "tuned"]
    done = subprocess.run(
        [sys.executable, FILE, *paths, *question], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\d)\. \S+ doc-\d+$", done.stdout, flags=re.MULTILINE) == ["1", "2", "3"]
    best = int(re.search(r"doc-(\d+)", done.stdout)[1])
    assert best % 5 == 2  # it says the same of another thing
