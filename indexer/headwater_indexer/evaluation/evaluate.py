"""`headwater-index evaluate`: an index's scores, and what stands beside them, measured in four ways."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.errors import UsageError
from headwater_indexer.evaluation import recall
from headwater_indexer.evaluation.journal import TruthOptions, recorded
from headwater_indexer.evaluation.lds import lds, seed_agreement
from headwater_indexer.evaluation.methods import WHAT, Method, scores_by_method
from headwater_indexer.evaluation.removal import most_influential, query_loss_differences
from headwater_indexer.evaluation.report import Evaluation, Figure
from headwater_indexer.evaluation.retraining import OwnTraining, Retrainings, ScriptTraining, window_length
from headwater_indexer.evaluation.tail_patch import tail_patch
from headwater_indexer.evaluation.training import TrainingOptions
from headwater_indexer.evaluation.truth import GroundTruth
from headwater_indexer.index import Index
from headwater_indexer.progress import Progress, Silent
from headwater_indexer.scores import Query

Measure = Literal["lds", "tail-patch", "qld", "recall"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
Scores = dict[Method, Float32[np.ndarray, "queries documents"]]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How the measures are taken."""

    methods: tuple[Method, ...]
    measures: tuple[Measure, ...] | None = None  # None: those that the inputs allow, without retraining
    candidates: int | None = None  # of each query that `rescored` and `refined` score again; None: all documents
    refine: int = 2  # steps of `refined`
    top_k: int = 10  # documents of a tail-patch
    step: float = 1e-3  # its length, over the norm of the weights
    share: float = 0.01  # of the documents, left out for qld
    qld_queries: int = 8  # that qld is measured on, spread over all of them
    qld_seeds: int = 2  # trainings for each of them
    training: TrainingOptions | None = None  # of qld, where the ground truth does not say how it was trained


def evaluate(
    index: Index,
    queries: Sequence[Query],
    folder: Path,
    options: EvaluateOptions,
    *,
    truth: GroundTruth | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Measures each method; retrainings are kept in `folder`, so that the same call goes on where it was stopped.

    Raises UsageError for a measure that the inputs do not allow, and DataError when the truth is about others.
    """
    measures = allowed_measures(options.measures, queries, truth)
    if truth is not None:
        truth.check(documents=len(index.documents), queries=len(queries))
    run = _Run(index, queries, folder, options, truth, device, progress or Silent())
    run.progress.say(f"scoring {len(index.documents):,} documents for {len(queries):,} queries")
    scores = scores_by_method(index, queries, options.methods, candidates=options.candidates, refine=options.refine)
    taken = {"lds": run.lds, "recall": run.recall, "tail-patch": run.tail_patch, "qld": run.qld}
    figures = [figure for name, take in taken.items() if name in measures for figure in take(scores)]
    return Evaluation(about=run.about(), figures=figures)


def parse_measures(text: str) -> tuple[Measure, ...]:
    """Names with commas between them. Raises UsageError for one that there is not."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or (unknown := [name for name in names if name not in MEASURES]):
        raise UsageError(f"--measures {text}: {unknown[0] if names else 'none'} is not one of {', '.join(MEASURES)}")
    return tuple(measure for measure in MEASURES if measure in names)


def allowed_measures(
    asked: tuple[Measure, ...] | None, queries: Sequence[Query], truth: GroundTruth | None
) -> tuple[Measure, ...]:
    """Those that were asked for, or all that cost no retraining. Raises UsageError for one without its inputs."""
    known = any(query.source_id is not None or query.source is not None for query in queries)
    missing: dict[Measure, str] = {}
    if truth is None:
        missing |= {"lds": "--truth, a ground truth's folder", "qld": "--truth, a ground truth's folder with base/"}
    elif not truth.base.is_dir():
        missing["qld"] = f"{truth.base}, the model that the trainings begin from"
    if not known:
        missing["recall"] = 'queries with a "source_id" or a "source"'
    if asked is None:
        return tuple(name for name in MEASURES if name not in missing and name != "qld")
    for name in asked:
        if name in missing:
            raise UsageError(f"--measures {name} needs {missing[name]}")
    return asked


@dataclass(frozen=True)
class _Run:
    """One evaluation; each measure turns scores into figures."""

    index: Index
    queries: Sequence[Query]
    folder: Path
    options: EvaluateOptions
    truth: GroundTruth | None
    device: str
    progress: Progress

    def about(self) -> dict[str, object]:
        manifest = self.index.manifest
        agreement = {} if self.truth is None else {"seed_agreement": _agreement(self.truth)}
        return {
            "headwater_version": version("headwater"),
            "model": Path(manifest.model.id).name,
            "index": manifest.version,
            "columns": manifest.width,
            "documents": manifest.documents,
            "queries": len(self.queries),
            "methods": {method: WHAT[method] for method in self.options.methods},
        } | agreement

    def lds(self, scores: Scores) -> list[Figure]:
        truth = self._truth()
        return [
            Figure(
                name="lds",
                what=f"Rank correlation, over {len(truth.masks)} sets of documents, of a set's summed scores "
                "with minus the loss of the model trained on it. 1 foretells every order, 0 none.",
                methods={method: lds(truth.masks, truth.losses, matrix) for method, matrix in scores.items()},
            )
        ]

    def recall(self, scores: Scores) -> list[Figure]:
        ids, sources = [], []
        for document in self.index.documents:
            ids.append(document.id)
            sources.append(document.source)
        relevant = recall.known_sources(self.queries, ids, sources)
        known = relevant.any(axis=1)
        if not known.any():
            raise UsageError("recall: no query's source is among the index's documents")
        taken = {
            method: recall.recall_figures(recall.first_places(matrix[known], relevant[known]))
            for method, matrix in scores.items()
        }
        whats = {
            "recall@1": "Whether a known source is found first.",
            "mrr": "One over the place of the known source, 1 where it is found first.",
        }
        return [
            Figure(
                name=name,
                what=whats.get(name, f"Whether a known source is among the first {name.partition('@')[2]}."),
                methods={method: figures[name] for method, figures in taken.items()},
            )
            for name in next(iter(taken.values()))
        ]

    def tail_patch(self, scores: Scores) -> list[Figure]:
        options, index = self.options, self.index
        gains: dict[str, np.ndarray] = {}
        with self.progress.step("tail-patch", len(scores) * len(self.queries), "step") as step:
            for method, matrix in scores.items():
                gains[method] = np.zeros(len(self.queries))
                for number, ordinals in enumerate(most_influential(matrix, options.top_k)):
                    query = self.queries[number]
                    gains[method][number] = tail_patch(
                        index.checkpoint.model,
                        [window for ordinal in ordinals for window in index.windows(int(ordinal))],
                        index.encode_truncated(query.prompt, query.response).window,
                        step=options.step,
                    )
                    step.advance(1)
        return [
            Figure(
                name="tail-patch",
                what=f"Growth of the response's log-likelihood, in nats, by a step of {options.step:g} of the weights' "
                f"norm on the best {options.top_k} documents.",
                methods=gains,
            )
        ]

    def qld(self, scores: Scores) -> list[Figure]:
        options = self.options
        chosen = np.unique(np.linspace(0, len(self.queries) - 1, options.qld_queries).round().astype(int))
        runs = self._retrainings([self.queries[i] for i in chosen])
        differences: dict[str, np.ndarray] = {}
        with self.progress.step("qld", len(scores) * len(chosen) * options.qld_seeds, "run") as step:
            for method, matrix in scores.items():
                differences[method] = query_loss_differences(
                    runs,
                    matrix[chosen],
                    share=options.share,
                    seeds=options.qld_seeds,
                    each=lambda: step.advance(1),
                )
        return [
            Figure(
                name="qld",
                what=f"Growth of the query's loss, in nats summed over the response, when the model is retrained "
                f"without its best {100 * options.share:g} % of the documents ({options.qld_seeds} trainings each).",
                methods=differences,
            )
        ]

    def _retrainings(self, queries: Sequence[Query]) -> Retrainings:
        """As the ground truth was trained, or as the options say where it does not tell; kept by all that decides."""
        truth, index = self._truth(), self.index
        unsaid = (self.options.training or TrainingOptions(), TruthOptions(), None)
        training, made, script = recorded(truth.folder) or unsaid
        documents = list(index.documents)
        base = load_checkpoint(str(truth.base), device=self.device, dtype="float32")
        decides = [asdict(training), made.max_length, script, base.weights_sha256, [asdict(query) for query in queries]]
        decides += [index.manifest.version]
        folder = self.folder / "retrainings" / hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
        own = OwnTraining(base, documents, queries, training, max_length=window_length(base, made.max_length))
        theirs = script and ScriptTraining(
            command=script,
            documents=documents,
            queries=queries,
            max_length=made.max_length,
            device=self.device,
            folder=folder,
        )
        return Retrainings(folder, theirs or own)

    def _truth(self) -> GroundTruth:
        if self.truth is None:
            raise UsageError("this measure needs --truth, a ground truth's folder")
        return self.truth


def _agreement(truth: GroundTruth) -> float | None:
    found = float(seed_agreement(truth.seed_losses).mean())
    return None if np.isnan(found) else round(found, 4)
