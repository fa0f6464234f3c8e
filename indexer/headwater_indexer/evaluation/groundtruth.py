"""`headwater-index groundtruth`: a model retrained on random halves of a corpus, so that attributions can be graded.

What is finished is kept: after a kill the same command goes on with the next training.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from headwater_indexer.checkpoint import Checkpoint, load_checkpoint
from headwater_indexer.corpus import Fields, read_documents
from headwater_indexer.durable import replacing, storage_errors
from headwater_indexer.errors import UsageError
from headwater_indexer.evaluation.journal import JOURNAL, TruthOptions, begin, describe, write_json
from headwater_indexer.evaluation.lds import seed_agreement
from headwater_indexer.evaluation.query_set import QuerySet, make_queries
from headwater_indexer.evaluation.retraining import (
    OwnTraining,
    Retrainings,
    ScriptTraining,
    Training,
    window_length,
    write_documents,
)
from headwater_indexer.evaluation.training import TrainingOptions
from headwater_indexer.evaluation.truth import ARRAYS, GroundTruth
from headwater_indexer.progress import Progress, Silent
from headwater_indexer.scores import read_queries
from headwater_indexer.workspace import working_in


def make_ground_truth(
    model: str,
    documents: str,
    out: Path,
    options: TruthOptions | None = None,
    training: TrainingOptions | None = None,
    *,
    queries: Path | None = None,
    train_script: str | None = None,
    fields: Fields | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> GroundTruth:
    """Trains `model` on all documents and on random halves, and writes a folder that `GroundTruth.load` reads.

    The same call after an interruption resumes, and after success returns at once. With `train_script` the command
    trains (see ScriptTraining), and `model` is what it starts from, kept for the record as base/.
    """
    options, training, progress = options or TruthOptions(), training or TrainingOptions(), progress or Silent()
    with working_in(out), storage_errors(out):
        base = load_checkpoint(model, device=device, dtype="float32")
        made = _inputs(documents, queries, options, fields or Fields())
        journal = describe(base, made, options, training, train_script)
        if begin(out, journal):
            progress.say(f"{out} is already made from these inputs")
            return GroundTruth.load(out)
        making = _Making(out, base, made, options, progress)
        making.write_inputs()
        trained: Training = (
            OwnTraining(
                base, made.documents, made.queries, training, max_length=window_length(base, options.max_length)
            )
            if train_script is None
            else ScriptTraining(
                command=train_script,
                documents=made.documents,
                queries=made.queries,
                max_length=options.max_length,
                device=device,
                folder=out / "trainings",
            )
        )
        agreement = making.write_arrays(making.retrain(trained))
        write_json(out / JOURNAL, journal | {"finished": True, "seed_agreement": agreement})
        shutil.rmtree(out / "trainings")
    return GroundTruth.load(out)


@dataclass(frozen=True)
class _Making:
    """The steps of one ground truth."""

    out: Path
    base: Checkpoint
    made: QuerySet
    options: TruthOptions
    progress: Progress

    @property
    def masks(self) -> Bool[np.ndarray, "subsets documents"]:
        """Random halves of the documents, the same for the same seed."""
        draw, count = np.random.default_rng(self.options.seed), len(self.made.documents)
        masks = np.zeros((self.options.subsets, count), dtype=bool)
        for mask in masks:
            mask[draw.permutation(count)[: count // 2]] = True
        return masks

    def write_inputs(self) -> None:
        """The documents, the queries, and what every training begins with."""
        with replacing(self.out / "train.jsonl") as aside:
            write_documents(aside, self.made.documents)
        with replacing(self.out / "queries.jsonl") as aside:
            _write_lines(aside, (asdict(query) for query in self.made.queries))
        self.base.model.save_pretrained(self.out / "base")
        self.base.tokenizer.save_pretrained(self.out / "base")

    def retrain(
        self, training: Training
    ) -> tuple[Float64[np.ndarray, " queries"], Float64[np.ndarray, "subsets seeds queries"]]:
        """The queries' losses after training on all documents, and after each training on a half."""
        options, runs = self.options, Retrainings(self.out / "trainings", training)
        with self.progress.step("trainings", 1 + options.subsets * options.seeds, "run") as step:
            full = runs.losses(np.ones(len(self.made.documents), dtype=bool), options.seed, save=self.out / "model")
            step.advance(1)
            losses = np.empty((options.subsets, options.seeds, len(full)))
            for subset, mask in enumerate(self.masks):
                for repeat in range(options.seeds):
                    seed = options.seed + 1 + subset * options.seeds + repeat
                    losses[subset, repeat] = runs.losses(mask, seed)
                    step.advance(1)
        return full, losses

    def write_arrays(
        self, found: tuple[Float64[np.ndarray, " queries"], Float64[np.ndarray, "subsets seeds queries"]]
    ) -> float | None:
        """lds.npz; returns how well the seeds agree, over all queries, where there are several."""
        full, losses = found
        with replacing(self.out / ARRAYS) as aside, aside.open("wb") as file:
            np.savez(
                file,
                masks=self.masks,
                losses=losses.mean(axis=1).astype(np.float32),
                seed_losses=losses.astype(np.float32),
                full_losses=full.astype(np.float32),
            )
        agreement = float(seed_agreement(losses).mean())
        if np.isnan(agreement):
            return None
        self.progress.say(
            f"two trainings on the same half order the halves alike to {agreement:.3f} (Spearman, mean over queries)"
            + ("" if agreement >= 0.8 else ": low. More --epochs, a higher --learning-rate or more --seeds raise it")
        )
        return round(agreement, 4)


def _inputs(location: str, queries: Path | None, options: TruthOptions, fields: Fields) -> QuerySet:
    documents = list(read_documents(location, fields))
    if queries is not None:
        return QuerySet(documents=documents, queries=read_queries(queries))
    made = make_queries(documents, held_out=options.held_out, quotes=options.quotes, seed=options.seed)
    if not made.queries:
        raise UsageError("no queries: give --queries, or --held-out and --quotes above 0")
    return made


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
