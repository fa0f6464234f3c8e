"""kronfluence (Grosse et al., 2023, arXiv 2308.03296): EK-FAC, unprojected; a query goes over all documents.

Settings: layers (mlp, all), damping (null: a tenth of the mean eigenvalue, its heuristic; 1e-8, its default),
empirical (Fisher of the true labels instead of sampled ones), query_rank (of the queries' gradients, null: in full).
"""

from itertools import count

import numpy as np
import torch
from contract import Example, Rival, Task, collate, load_model, main, summed_loss, watched_layers
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task as KronfluenceTask
from kronfluence.utils.dataset import DataLoaderKwargs
from numpy.typing import NDArray
from torch import Tensor, nn

BATCH = 64


class LanguageModelling(KronfluenceTask):
    """As kronfluence's own WikiText example, with padding."""

    def __init__(self, layers: list[str]) -> None:
        self._layers = layers

    def compute_train_loss(self, batch: dict[str, Tensor], model: nn.Module, sample: bool = False) -> Tensor:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        labels = batch["labels"]
        if sample:
            with torch.no_grad():
                drawn = torch.multinomial(logits[:, :-1].flatten(0, 1).softmax(-1), num_samples=1).view_as(
                    labels[:, 1:]
                )
            labels = torch.cat([labels[:, :1], drawn.masked_fill(labels[:, 1:] < 0, -100)], dim=1)
        return summed_loss(logits, labels)

    def compute_measurement(self, batch: dict[str, Tensor], model: nn.Module) -> Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self._layers

    def get_attention_mask(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["attention_mask"]


class Kronfluence(Rival):
    def __init__(self, task: Task) -> None:
        model = load_model(task, linear=True)
        influence = LanguageModelling(watched_layers(model, task.settings["layers"]))
        self._documents = task.documents
        self._settings = task.settings
        self._names = (f"scores-{number}" for number in count())
        self._analyzer = Analyzer(
            analysis_name="peers",
            model=prepare_model(model, influence),
            task=influence,
            cpu=True,
            output_dir=str(task.workspace()),
            disable_tqdm=True,
            disable_model_save=True,
        )
        self._analyzer.set_dataloader_kwargs(DataLoaderKwargs(collate_fn=collate))

    def index(self) -> None:
        self._analyzer.fit_all_factors(
            factors_name="ekfac",
            dataset=self._documents,
            per_device_batch_size=BATCH,
            factor_args=FactorArguments(strategy="ekfac", use_empirical_fisher=self._settings["empirical"]),
            overwrite_output_dir=True,
        )

    def scores(self, queries: list[Example], *, all_documents: bool) -> NDArray[np.float32]:
        del all_documents  # it has no other way
        rank = self._settings["query_rank"]
        arguments = ScoreArguments(damping_factor=self._settings["damping"], query_gradient_low_rank=rank)
        name = next(self._names)
        self._analyzer.compute_pairwise_scores(
            scores_name=name,
            factors_name="ekfac",
            query_dataset=queries,
            train_dataset=self._documents,
            per_device_query_batch_size=len(queries),
            per_device_train_batch_size=BATCH,
            score_args=arguments,
            overwrite_output_dir=True,
        )
        return self._analyzer.load_pairwise_scores(name)["all_modules"].numpy()

    def bytes_per_document(self) -> float:
        return 0.0


if __name__ == "__main__":
    main(Kronfluence)
