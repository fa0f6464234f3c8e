"""dattri's LoGra (Choe et al., 2024, arXiv 2405.13954): random projections of both factors, the raw Fisher inverted.

Settings: layers (mlp, all), rank (of each factor), damping (of the mean eigenvalue; null: dattri's 1e-5).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from contract import Example, Rival, Task, collate, load_model, main, summed_loss, watched_layers
from dattri.algorithm.logra import LoGraAttributor
from dattri.task import AttributionTask
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

BATCH = 8


def batches(examples: list[Example]) -> "DataLoader[Any]":
    return DataLoader(examples, batch_size=BATCH, shuffle=False, collate_fn=collate)  # type: ignore[arg-type]


def attributor(task: Task, hessian: str) -> LoGraAttributor:
    model = load_model(task, linear=True)

    def loss(model: nn.Module, batch: dict[str, Tensor], device: str) -> Tensor:
        del device
        return summed_loss(model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"])

    return LoGraAttributor(
        task=AttributionTask(loss, model, model.state_dict()),
        layer_names=watched_layers(model, task.settings["layers"]),
        hessian=hessian,
        damping=task.settings["damping"],
        proj_dim=task.settings["rank"] ** 2,
        offload="cpu",
    )


class LoGra(Rival):
    def __init__(self, task: Task) -> None:
        self._documents = task.documents
        self._attributor = attributor(task, "eFIM")

    def index(self) -> None:
        self._attributor.cache(batches(self._documents))

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        del all_documents  # it has no other way
        return self._attributor.attribute(batches(self._documents), batches(queries)).T.numpy()

    def bytes_per_document(self) -> float:
        """The preconditioned rows in float32; the rows themselves, which it keeps as well, are not counted."""
        return 4.0 * self._attributor.total_proj_dim


def capture(task: Task) -> Callable[[], object]:
    """Without a Hessian: gradients projected and kept."""
    documents, logra = batches(task.documents), attributor(task, "Identity")
    return lambda: logra.cache(documents)


if __name__ == "__main__":
    main(LoGra, capture)
