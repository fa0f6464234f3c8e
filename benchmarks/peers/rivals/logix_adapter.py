"""LogIX, by LoGra's authors (Choe et al., 2024, arXiv 2405.13954): gradients logged through low-rank bottlenecks.

Settings: layers (mlp, all), rank, start (random, pca), hessian (raw, ekfac), damping (null: a tenth of the mean
eigenvalue), mode (dot; cosine: over the length of the document's gradient).
"""

import os
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from contract import Example, Rival, Task, collate, load_model, main, summed_loss, watched_layers
from logix import LogIX, LogIXScheduler
from logix.config import LoRAConfig
from logix.utils import merge_logs
from numpy.typing import NDArray

BATCH = 8


class LoggedGradients(Rival):
    def __init__(self, task: Task) -> None:
        self._documents = task.documents
        self._settings = task.settings
        self._model = load_model(task, linear=True)
        os.chdir(task.workspace())  # LogIX writes its log under the current folder
        self._run = LogIX("peers")
        self._run.watch(self._model, name_filter=watched_layers(self._model, task.settings["layers"]))
        self._run.set_lora_config(LoRAConfig(init=task.settings["start"], rank=task.settings["rank"]))

    def index(self) -> None:
        scheduler = LogIXScheduler(
            self._run, lora=self._settings["start"], hessian=self._settings["hessian"], save="grad"
        )
        for _ in scheduler:
            self.log_all()
            self._run.finalize()
        self._loader = self._run.build_log_dataloader(batch_size=64)
        self._run.setup({"grad": ["log"]})
        self._run.eval()

    def log_all(self) -> None:
        for start in range(0, len(self._documents), BATCH):
            self._logged(self._documents[start : start + BATCH], start)

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        del all_documents  # it has no other way
        logs = []
        for start in range(0, len(queries), BATCH):
            self._logged(queries[start : start + BATCH], start)
            logs.append(deepcopy(self._run.get_log()))
        found = self._run.influence.compute_influence_all(
            merge_logs(logs), self._loader, mode=self._settings["mode"], damping=self._settings["damping"]
        )
        order = np.argsort([int(name) for name in found["tgt_ids"]])
        return found["influence"].numpy()[:, order]

    def bytes_per_document(self) -> float:
        """The logged gradients in float32."""
        layers = [module for name, module in self._model.named_modules() if name.endswith("logix_lora_B")]
        return 4.0 * sum(layer.weight.numel() for layer in layers)

    def _logged(self, examples: list[Example], first: int) -> None:
        batch = collate(examples)
        labels = batch.pop("labels")
        with self._run(data_id=[str(first + number) for number in range(len(examples))], mask=batch["attention_mask"]):
            self._model.zero_grad()
            summed_loss(self._model(**batch).logits, labels).backward()


def capture(task: Task) -> Callable[[], object]:
    """Gradients logged and written, without a Hessian."""
    rival = LoggedGradients(task)
    torch.set_grad_enabled(True)
    for _ in LogIXScheduler(rival._run, lora="random", hessian="none", save="grad"):
        break
    return rival.log_all


if __name__ == "__main__":
    main(LoggedGradients, capture)
