"""What an adapter is given and gives back, in a rival's environment: NumPy, torch, transformers, nothing of ours.

    python ADAPTER.py TASK.json

The task names the model's folder, the tokens (the same for every rival), the settings, and a folder for the results:
scores.npy [queries, documents], higher for documents that lower the query's loss, and figures.json.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

IGNORED = -100  # label of a token whose loss does not count
REPEATS = 5


@dataclass(frozen=True)
class Example:
    """Token ids, and the first position whose token's loss counts."""

    ids: NDArray[np.int64]
    first_target: int


@dataclass(frozen=True)
class Task:
    """One point to measure: `settings` are the adapter's own."""

    model: Path
    documents: list[Example]
    queries: list[Example]
    settings: dict[str, Any]
    out: Path
    capture: bool  # of the documents' gradients, without scores
    raw: dict[str, Any]  # the task as it came

    @classmethod
    def read(cls, path: Path) -> "Task":
        raw = json.loads(path.read_text())
        with np.load(raw["tokens"], allow_pickle=False) as arrays:
            documents, queries = _examples(arrays, "documents"), _examples(arrays, "queries")
        return cls(
            model=Path(raw["model"]),
            documents=documents,
            queries=queries,
            settings=raw["settings"],
            out=Path(raw["out"]),
            capture=raw["capture"],
            raw=raw,
        )

    def workspace(self) -> Path:
        folder = self.out / "workspace"
        folder.mkdir(exist_ok=True)
        return folder


class Rival(Protocol):
    """What an adapter makes of its rival."""

    def index(self) -> None:
        """All that is done before the first query."""

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        """A query as a user would ask it, gradients included: [queries, documents], or the best ten where the rival
        can tell them by themselves."""

    def bytes_per_document(self) -> float:
        """What a query reads of every document; nothing for those that go through the documents again."""


def main(rival: Callable[[Task], Rival], capture: Callable[[Task], Callable[[], object]] | None = None) -> None:
    """Measures one point; `capture` gives one pass over the documents' gradients."""
    task = Task.read(Path(sys.argv[1]))
    torch.set_num_threads(task.raw["threads"])
    torch.manual_seed(0)
    if task.capture:
        if capture is None:
            raise SystemExit("this rival has no capture of its own")
        figures = _timed_capture(task, capture(task))
    else:
        figures = _scored(task, rival(task))
    figures["peak_memory_bytes"] = _peak_memory()
    (task.out / "figures.json").write_text(json.dumps(figures, indent=1))


def load_model(task: Task, *, linear: bool) -> PreTrainedModel:
    """In float32 and in evaluation mode; `linear` puts nn.Linear for GPT-2's Conv1D where a rival knows only that."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(task.model, dtype=torch.float32).eval()
    if linear:
        _replace_conv1d(model)
    return model


def watched_layers(model: PreTrainedModel, layers: str) -> list[str]:
    """Names of the linear layers but the head: `mlp` for those of the MLPs alone, or `all`."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name != "lm_head" and (layers == "all" or ".mlp." in name)
    ]


def collate(examples: list[Example]) -> dict[str, Tensor]:
    """A batch as transformers takes it, padded on the right; labels count from each example's first target on."""
    ids = [torch.from_numpy(example.ids) for example in examples]
    labels = [row.clone() for row in ids]
    for row, example in zip(labels, examples, strict=True):
        row[: example.first_target] = IGNORED
    pad = nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(ids, batch_first=True),
        "attention_mask": pad([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=IGNORED),
    }


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of the next-token losses."""
    flat = logits[:, :-1].flatten(0, 1).float()
    return functional.cross_entropy(flat, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def _scored(task: Task, rival: Rival) -> dict[str, Any]:
    started = time.perf_counter()
    rival.index()
    index_seconds = time.perf_counter() - started
    scores = np.asarray(rival.scores(task.queries, all_documents=True), dtype=np.float32)
    if scores.shape != (len(task.queries), len(task.documents)):
        raise SystemExit(f"scores are {scores.shape}, not [queries, documents]")
    np.save(task.out / "scores.npy", scores, allow_pickle=False)
    return {
        "bytes_per_document": rival.bytes_per_document(),
        "index_seconds_per_document": index_seconds / len(task.documents),
        **query_seconds(task, lambda queries: rival.scores(queries, all_documents=False)),
    }


def query_seconds(task: Task, ask: Callable[[list[Example]], object]) -> dict[str, float]:
    """Of one query and of all, with a plain forward and backward of the same tokens beside as a measure of how busy the
    machine is; medians, of fewer repeats where a query takes seconds."""
    one = task.queries[:1]
    plain = _plain_pass(task)
    figures: dict[str, float] = {}
    for name, queries in (("1", one), (str(len(task.queries)), task.queries)):
        ask(queries), plain(queries)
        asked: list[float] = []
        passed: list[float] = []
        while len(asked) < REPEATS and sum(asked) < 10:
            asked.append(_seconds(lambda: ask(queries)))  # noqa: B023 - called at once
            passed.append(_seconds(lambda: plain(queries)))  # noqa: B023
        figures[f"query_seconds_{name}"] = statistics.median(asked)
        figures[f"plain_pass_seconds_{name}"] = statistics.median(passed)
    return figures


def _timed_capture(task: Task, once: Callable[[], object]) -> dict[str, Any]:
    """Interleaved with a plain pass over the same documents: forward, and backward of the activations alone."""
    plain = _plain_pass(task)
    tokens = sum(len(example.ids) for example in task.documents)
    seconds, passed = [], []
    for number in range(task.raw["rounds"] + 1):
        ours, theirs = _seconds(once), _seconds(lambda: plain(task.documents))
        if number:  # the first round warms up
            seconds.append(ours)
            passed.append(theirs)
    ratios = [theirs / ours for ours, theirs in zip(seconds, passed, strict=True)]
    return {
        "tokens_per_second": tokens / statistics.median(seconds),
        "of_plain_pass": statistics.median(ratios),
    }


def _plain_pass(task: Task) -> Callable[[list[Example]], None]:
    """Forward and backward of the activations alone, eight at a time: what any gradient costs at least."""
    model = load_model(task, linear=False).requires_grad_(False)
    model.get_input_embeddings().register_forward_hook(lambda _, __, output: output.requires_grad_(True))

    def once(examples: list[Example]) -> None:
        for start in range(0, len(examples), 8):
            batch = collate(examples[start : start + 8])
            labels = batch.pop("labels")
            summed_loss(model(**batch, use_cache=False).logits, labels).backward()

    return once


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _examples(arrays: Any, name: str) -> list[Example]:
    ids = np.split(arrays[f"{name}_ids"].astype(np.int64), arrays[f"{name}_starts"][1:])
    return [Example(row, int(first)) for row, first in zip(ids, arrays[f"{name}_first_targets"], strict=True)]


def _replace_conv1d(module: nn.Module) -> None:
    for name, child in module.named_children():
        _replace_conv1d(child)
        if isinstance(child, Conv1D):
            rows, columns = child.weight.shape
            linear = nn.Linear(rows, columns)
            linear.weight.data.copy_(child.weight.data.T)
            linear.bias.data.copy_(child.bias.data)
            setattr(module, name, linear)


def _peak_memory() -> int:
    """Bytes, of the whole process."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
