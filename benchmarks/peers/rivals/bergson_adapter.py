"""bergson: an index of projected gradients with or without a preconditioner, and EK-FAC on unprojected gradients.

Settings: layers (mlp, all), projection (dimensions of each side of a layer; 0: none), hessian (none; autocorrelation,
the raw Fisher block as in TrackStar, arXiv 2410.17413; ekfac), damping (of the mean eigenvalue; 0.1 is its default),
unit_norm (cosine, the Hessian's root on both sides: TrackStar), refinement_steps (conjugate gradients of ekfac's
solution) and refinement_documents (in each product of those).

With ekfac the documents are gone through again at each query, as its `ekfac` pipeline does; otherwise they are stored.
"""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import torch
from bergson import (
    Attributor,
    CollectorComputer,
    IndexConfig,
    InMemoryCollector,
    PreprocessConfig,
    ScoreConfig,
    collect_gradients,
)
from bergson.build import build_worker
from bergson.config.config import AstraConfig, DataConfig, HessianConfig, InversionConfig
from bergson.data import allocate_batches, load_gradients, load_scores
from bergson.gradients import GradientProcessor
from bergson.hessians.apply_hessian import EkfacConfig, apply_worker
from bergson.hessians.astra import AstraPaths, astra_worker
from bergson.hessians.hessian_approximations import hessian_worker
from bergson.score.score import score_worker
from contract import IGNORED, Example, Rival, Task, load_model, main
from datasets import Dataset
from numpy.typing import NDArray

BATCH_TOKENS = 4096


def dataset(examples: list[Example]) -> Dataset:
    labels = [[IGNORED] * example.first_target + example.ids[example.first_target :].tolist() for example in examples]
    ids = [example.ids.tolist() for example in examples]
    return Dataset.from_dict({"input_ids": ids, "labels": labels, "length": [len(row) for row in ids]})


class Bergson:
    """Folders and configurations, which all of bergson's steps want."""

    def __init__(self, task: Task) -> None:
        self.settings = task.settings
        self.documents = dataset(task.documents)
        self.folder = task.workspace()
        self.model = str(task.model)
        self._numbers = count()
        self.documents.save_to_disk(str(self.folder / "documents"))

    def config(self, name: str, *, projection: int, batch_tokens: int = BATCH_TOKENS) -> IndexConfig:
        """Of one step, which leaves its results in a folder of its own."""
        folder = self.folder / f"{name}-{next(self._numbers)}"
        made = IndexConfig(
            run_path=str(folder),
            model=self.model,
            precision="fp32",
            data=DataConfig(dataset=str(self.folder / "documents")),
            projection_dim=projection,
            token_batch_size=batch_tokens,
            filter_modules="*attn*" if self.settings["layers"] == "mlp" else None,
        )
        made.partial_run_path.mkdir(parents=True)
        return made

    def inversion(self) -> InversionConfig:
        return InversionConfig(damping_factor=self.settings["damping"])


def finished(config: IndexConfig) -> Path:
    shutil.move(config.partial_run_path, config.run_path)
    return Path(config.run_path)


class StoredGradients(Rival):
    """Projected gradients on disk, opened by bergson's Attributor."""

    def __init__(self, task: Task) -> None:
        self._bergson = Bergson(task)
        self._model = load_model(task, linear=False).requires_grad_(True)
        self._projection = task.settings["projection"]

    def index(self) -> None:
        settings = self._bergson.settings
        config = self._bergson.config("index", projection=self._projection)
        build_worker(0, 0, 1, config, PreprocessConfig(), self._bergson.documents)
        self._index, hessian = finished(config), None
        if settings["hessian"] == "autocorrelation":
            config = self._bergson.config("hessian", projection=self._projection)
            hessian_worker(0, 0, 1, config, HessianConfig(method="autocorrelation"), self._bergson.documents)
            hessian = finished(config)
        self._attributor = Attributor(
            self._index,
            unit_norm=settings["unit_norm"],
            hessian_path=hessian,
            inversion_cfg=self._bergson.inversion(),
        )

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        found, ordinals = self._attributor.search(self._gradients(queries), None if all_documents else 10)
        if not all_documents:
            return found.numpy()
        return torch.zeros_like(found).scatter(1, ordinals, found).numpy()

    def bytes_per_document(self) -> float:
        rows = load_gradients(self._index)
        return rows.nbytes / len(rows)

    def _gradients(self, queries: list[Example]) -> dict[str, torch.Tensor]:
        config = self._bergson.config("queries", projection=self._projection)
        data = dataset(queries)
        collector = InMemoryCollector(
            model=self._model.base_model,
            data=data,
            cfg=config,
            processor=GradientProcessor({}, projection_dim=self._projection or None),
        )
        batches = allocate_batches(data["length"][:], BATCH_TOKENS)
        CollectorComputer(
            self._model, data, collector=collector, batches=batches, cfg=config
        ).run_with_collector_hooks()
        return collector.gradients


class Ekfac(Rival):
    """The steps of bergson's `ekfac` pipeline: queries, factors, their inverse, conjugate gradients, documents."""

    def __init__(self, task: Task) -> None:
        self._bergson = Bergson(task)

    def index(self) -> None:
        config = self._bergson.config("hessian", projection=0)
        self._hessian_config = HessianConfig(method="kfac", ev_correction=True)
        hessian_worker(0, 0, 1, config, self._hessian_config, self._bergson.documents)
        self._hessian = finished(config)

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        del all_documents  # it has no other way
        config = self._bergson.config("queries", projection=0)
        build_worker(0, 0, 1, config, PreprocessConfig(), dataset(queries))
        query = finished(config)
        solved = self._solved(query)
        if self._bergson.settings["refinement_steps"]:
            solved = self._refined(query, solved)
        config = self._bergson.config("scores", projection=0)
        score_worker(0, 0, 1, config, ScoreConfig(query_path=str(solved)), PreprocessConfig(), self._bergson.documents)
        return np.asarray(load_scores(finished(config))[:]).T

    def _solved(self, query: Path) -> Path:
        out = query.with_name(query.name + "-solved")
        config = EkfacConfig(str(self._hessian), str(query), str(out), ev_correction=True, apply_batch_size=64)
        apply_worker(0, 0, 1, config, self._bergson.inversion())
        return out

    def _refined(self, query: Path, solved: Path) -> Path:
        out = query.with_name(query.name + "-refined")
        shutil.copytree(solved, out)
        paths = AstraPaths(str(query), str(solved), str(self._hessian), str(out))
        settings = self._bergson.settings
        astra = AstraConfig(
            num_steps=settings["refinement_steps"],
            solver="cg",
            batch_size=settings["refinement_documents"],
            micro_batch_size=64,
        )
        # This step reads the documents by itself, and wants a batch no longer than the model's context.
        config = self._bergson.config("refinement", projection=0, batch_tokens=min(self._bergson.documents["length"]))
        astra_worker(0, 0, 1, paths, config, self._bergson.inversion(), astra, True)
        return out

    def bytes_per_document(self) -> float:
        return 0.0


def rival(task: Task) -> Rival:
    return Ekfac(task) if task.settings["hessian"] == "ekfac" else StoredGradients(task)


def capture(task: Task) -> Callable[[], object]:
    """An index built: gradients projected and written."""
    bergson = Bergson(task)
    model = load_model(task, linear=False)
    processor = GradientProcessor({}, projection_dim=task.settings["projection"])
    batches = allocate_batches(bergson.documents["length"][:], 8 * max(bergson.documents["length"]))

    def once() -> None:
        config = bergson.config("index", projection=task.settings["projection"])
        collect_gradients(model, bergson.documents, processor, config, batches=batches)

    return once


if __name__ == "__main__":
    main(rival, capture)
