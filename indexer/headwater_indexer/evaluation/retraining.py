"""Retraining on a part of the documents, by our own loop or a user's script; each result is kept when it is there."""

import copy
import hashlib
import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float64

from headwater_indexer.checkpoint import Checkpoint, load_checkpoint
from headwater_indexer.corpus import Document
from headwater_indexer.durable import make_folder, replacing
from headwater_indexer.errors import ConfigurationError, HeadwaterError
from headwater_indexer.evaluation.training import TrainingOptions, summed_losses, train
from headwater_indexer.options import LONGEST_WINDOW
from headwater_indexer.scores import Query
from headwater_indexer.windows import Encoder, Window

Mask = Bool[np.ndarray, " documents"]
Losses = Float64[np.ndarray, " queries"]


class Training(Protocol):
    """Trains on the documents of a mask, saves the model if told where, and returns each query's summed loss."""

    def __call__(self, mask: Mask, seed: int, *, save: Path | None = None) -> Losses: ...


class OwnTraining:
    """From the weights of `base`, by `train`. Documents and queries that are too long lose their end."""

    def __init__(
        self,
        base: Checkpoint,
        documents: Sequence[Document],
        queries: Sequence[Query],
        options: TrainingOptions,
        *,
        max_length: int,
    ) -> None:
        encoder = Encoder(base.tokenizer, max_length)
        self._base = base
        self._documents = [encoder.document(document, long="truncate") for document in documents]
        self._queries = query_windows(encoder, queries)
        self._options = options

    def __call__(self, mask: Mask, seed: int, *, save: Path | None = None) -> Losses:
        model = copy.deepcopy(self._base.model)
        chosen = [window for i in np.flatnonzero(mask) for window in self._documents[i]]
        train(model, chosen, self._options, seed=seed)
        if save is not None:
            model.save_pretrained(save)
            self._base.tokenizer.save_pretrained(save)
        return summed_losses(model, self._queries)


@dataclass(frozen=True, kw_only=True)
class ScriptTraining:
    """By a user's own command, called as `COMMAND DOCUMENTS_FOLDER OUTPUT_FOLDER` for each training.

    DOCUMENTS_FOLDER has documents.jsonl (records as this project reads them: an id, and text, prompt and response, or
    messages) and training.json ({"seed": ..., "documents": ...}). The command leaves in the empty OUTPUT_FOLDER a model
    and tokenizer that transformers loads (save_pretrained, safetensors) and ends with 0.
    The same documents and seed should give the same model.
    """

    command: str
    documents: Sequence[Document]
    queries: Sequence[Query]
    max_length: int | None
    device: str
    folder: Path  # where the two folders of each call are made

    def __call__(self, mask: Mask, seed: int, *, save: Path | None = None) -> Losses:
        chosen = [document for document, wanted in zip(self.documents, mask, strict=True) if wanted]
        if save is not None:
            shutil.rmtree(save, ignore_errors=True)  # half of a model, from a training that was killed
        with tempfile.TemporaryDirectory(prefix="training-", dir=make_folder(self.folder)) as aside:
            given, made = make_folder(Path(aside) / "documents"), make_folder(save or Path(aside) / "model")
            write_documents(given / "documents.jsonl", chosen)
            (given / "training.json").write_text(json.dumps({"seed": seed, "documents": len(chosen)}))
            self._run(given, made)
            checkpoint = load_checkpoint(str(made), device=self.device, dtype="float32")
            return summed_losses(checkpoint.model, query_windows(self._encoder(checkpoint), self.queries))

    def _run(self, given: Path, made: Path) -> None:
        words = [*shlex.split(self.command), str(given), str(made)]
        try:
            ended = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
        except OSError as error:
            raise ConfigurationError(f"--train-script {self.command}: cannot be run ({error.strerror})") from error
        if ended.returncode:
            said = [line for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
            last = said[-1] if said else "it said nothing"
            raise HeadwaterError(f"--train-script {self.command} ended with {ended.returncode}: {last}")

    def _encoder(self, checkpoint: Checkpoint) -> Encoder:
        return Encoder(checkpoint.tokenizer, self.max_length or window_length(checkpoint, None))


class Retrainings:
    """Trainings that are done once for each mask and seed; each result is a file, whole or absent."""

    def __init__(self, folder: Path, training: Training) -> None:
        self.folder = make_folder(folder)
        self._training = training

    def losses(self, mask: Mask, seed: int, *, save: Path | None = None) -> Losses:
        """Of every query after training on the mask's documents. Raises HeadwaterError when one is not a number."""
        path = self.folder / f"{hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:24]}-{seed}.npy"
        if path.exists():
            return np.asarray(np.load(path, allow_pickle=False))
        losses = self._training(mask, seed, save=save)
        if not np.isfinite(losses).all():
            raise HeadwaterError("a retrained model's loss on a query is not a number: take a lower --learning-rate")
        with replacing(path) as aside, aside.open("wb") as file:
            np.save(file, losses, allow_pickle=False)
        return losses


def window_length(checkpoint: Checkpoint, asked: int | None) -> int:
    """As many tokens as asked for, or as the model has positions, at most LONGEST_WINDOW."""
    positions = checkpoint.max_length or LONGEST_WINDOW
    if asked is not None and asked > positions:
        raise ConfigurationError(f"--max-length {asked}: {checkpoint.id} has {positions} positions")
    return asked or min(LONGEST_WINDOW, positions)


def query_windows(encoder: Encoder, queries: Sequence[Query]) -> list[Window]:
    return [encoder.truncated_pair(query.prompt, query.response).window for query in queries]


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """As JSONL that `read_documents` reads back to the same documents."""
    with path.open("w", encoding="utf-8") as file:
        for document in documents:
            text: dict[str, object] = {"text": document.text}
            if document.prompt is not None:
                text = {"prompt": document.prompt, "response": document.text}
            if document.messages is not None:
                text = {"messages": document.messages}
            source = {} if document.source is None else {"source": document.source}
            record = {"id": document.id, **text, **source, **document.metadata}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
