"""Fine-tune with Hugging Face's Trainer and keep each document's gradient as it was when it moved the model.

    python examples/trainer_callback.py my-model corpus.jsonl my.index tuned "PROMPT" "RESPONSE"

An index holds the gradients at the finished model. Here they are caught in the training's own backward passes, seen
through the projections and the whitening of an index (of the model before the fine-tuning, on the same documents), at
almost no cost. Each row is therefore of the weights before its own step, with dropout where the model has any, and a
document has one row an epoch. Influence over a training is the sum of its rows' products with the question's, each
times its learning rate (TracIn, arXiv 2002.08484); the question's gradient is taken once, at the end, where TracIn
takes it at every step.
"""

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from headwater_indexer.capture import capturing
from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.corpus import read_documents
from headwater_indexer.hessian import Whitener
from headwater_indexer.layers import watchable_layers
from headwater_indexer.manifest import Manifest
from headwater_indexer.projection import Projections
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.windows import Encoder
from headwater_indexer.workspace import Workspace

AT_ONCE = 1024  # rows held in memory before they are written


class RowsWhileTraining(TrainerCallback):
    """Leaves shards of whitened rows in `out`, and rows.jsonl: of each row its tokens' name, step and learning rate.

    For one device, without float16's scaled losses and without gradient checkpointing, which runs forward passes twice.
    """

    def __init__(self, index: Path, out: Path) -> None:
        work, manifest = Workspace(index), Manifest.read(index)
        self.layers = manifest.layers
        self.projections = Projections.load(work.projections)
        self.whiten = Whitener.load(work.whitener, self.projections.layout)
        self.store = ShardStore(out, width=manifest.width)
        self._notes = (out / "rows.jsonl").open("a")
        self._rows: list[Tensor] = []
        self._running: dict[str, Any] | None = None
        self._handles: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        twice = args.gradient_checkpointing or getattr(args, "activation_checkpointing", False)
        if args.fp16 or twice or args.n_gpu > 1:
            raise ValueError("rows are caught on one device, without fp16 and without gradient checkpointing")
        self._accumulated = args.gradient_accumulation_steps
        self._matrices = self.projections.to(model.device)
        modules = dict(model.named_modules())
        self._handles = [model.register_forward_pre_hook(self._begin, with_kwargs=True)]
        self._handles += [modules[name].register_forward_hook(self._watch(name)) for name in self.layers]

    def _begin(self, model: Any, _: Any, inputs: dict[str, Any]) -> None:
        """A forward pass begins; the one before it has been propagated back."""
        self._finish()
        if not (model.training and torch.is_grad_enabled()):
            return
        # The loss that the trainer propagates is a mean: over all tokens of the step, or over this batch's.
        tokens = (inputs["labels"][:, 1:] != -100).sum()
        scale = inputs.get("num_items_in_batch")
        scale = tokens * self._accumulated if scale is None else scale
        width = self.projections.layout.width
        rows = torch.zeros(len(tokens_of(inputs)), width, device=model.device)
        self._running = {"scale": float(scale), "rows": rows, "names": [name_of(ids) for ids in tokens_of(inputs)]}

    def _watch(self, name: str) -> Any:
        projection, columns = self._matrices[name], self.projections.layout.columns[name]

        def hook(_: Any, inputs: Any, output: Tensor) -> None:
            running = self._running
            if running is None or not output.requires_grad:
                return
            seen_input = inputs[0].detach().float() @ projection.input.T

            def backward(grad: Tensor) -> None:
                seen_output = grad.float() @ projection.output.T
                running["rows"][:, columns] += torch.bmm(seen_output.mT, seen_input).flatten(1)

            output.register_hook(backward)

        return hook

    def _finish(self) -> None:
        """The rows of the pass that is over, whitened, as gradients of the sum of each sequence's losses."""
        if self._running is not None:
            self._rows.append(self.whiten((self._running["rows"] * self._running["scale"]).cpu()))
            self._names.extend(self._running["names"])
            self._running = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._names: list[str] = []

    def on_step_end(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **_: Any) -> None:
        self._finish()
        # The scheduler has gone on to the next step's rate already.
        rate = self._rate if hasattr(self, "_rate") else args.learning_rate
        for name in self._names:
            note = {"tokens": name, "weights_after_step": state.global_step - 1, "learning_rate": rate}
            self._notes.write(json.dumps(note) + "\n")
        self._rate = lr_scheduler.get_last_lr()[0]
        if sum(map(len, self._rows)) >= AT_ONCE:
            self._write()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._write()
        self._notes.close()

    def _write(self) -> None:
        if self._rows:
            self.store.append(torch.cat(self._rows).numpy())
            self._rows = []


def tokens_of(inputs: dict[str, Any]) -> list[list[int]]:
    """Each sequence of a batch, without its padding."""
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
    return [ids[seen].tolist() for ids, seen in zip(inputs["input_ids"], mask, strict=True)]


def name_of(ids: Sequence[int]) -> str:
    """What a sequence is known by: a trainer shuffles documents and drops their ids."""
    return hashlib.sha256(np.asarray(ids, dtype=np.int32).tobytes()).hexdigest()


def influence_by_tokens(out: Path, question: np.ndarray) -> dict[str, float]:
    """The sum over the training of learning rate times row times question, by the names of sequences."""
    notes = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    products = np.concatenate([rows @ question for rows in ShardStore.open(out)])
    found: dict[str, float] = defaultdict(float)
    for note, product in zip(notes, products, strict=True):
        found[note["tokens"]] += note["learning_rate"] * float(product)
    return found


def main(model: str, documents: str, index: str, out: str, prompt: str, response: str) -> None:
    checkpoint = load_checkpoint(model, device="cpu")
    encoder = Encoder(checkpoint.tokenizer, Manifest.read(Path(index)).windows.max_length)
    ids_of, examples = {}, []
    for document in read_documents(documents):
        for window in encoder.document(document):
            ids = window.input_ids.tolist()
            ids_of[name_of(ids)] = document.id
            examples.append({"input_ids": ids, "labels": ids})
    rows = RowsWhileTraining(Path(index), Path(out) / "rows")
    network = checkpoint.model.requires_grad_(True)
    arguments = TrainingArguments(
        out, num_train_epochs=2, per_device_train_batch_size=8, learning_rate=1e-3, report_to=[], save_strategy="no",
        use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    Trainer(network, arguments, train_dataset=examples, data_collator=padded, callbacks=[rows]).train()

    network.eval().requires_grad_(False)
    layers = [watchable_layers(network)[name] for name in rows.layers]
    pair = encoder.pair(prompt, response)
    with capturing(network, layers, rows.projections, batch_tokens=4096) as capture:
        question = rows.whiten(capture([pair.window]))[0].numpy()
    found = influence_by_tokens(Path(out) / "rows", question)
    for rank, name in enumerate(sorted(found, key=lambda name: -found[name])[:3], 1):
        print(f"{rank}. {found[name]:.3g} {ids_of[name]}")


def padded(examples: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """One batch, padded on the right; padding has no loss."""
    length = max(len(example["input_ids"]) for example in examples)

    def pad(values: list[int], filler: int) -> list[int]:
        return values + [filler] * (length - len(values))

    return {
        "input_ids": torch.tensor([pad(example["input_ids"], 0) for example in examples]),
        "attention_mask": torch.tensor([pad([1] * len(example["input_ids"]), 0) for example in examples]),
        "labels": torch.tensor([pad(example["labels"], -100) for example in examples]),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
