"""A ground truth's folder: what models that were retrained on random subsets of the documents lost on each query.

train.jsonl      the documents        queries.jsonl    {"id", "prompt", "response", "source_id"}
model/           trained on all of them                base/    what every training began from
lds.npz          masks [subsets, documents], losses [subsets, queries], seed_losses [subsets, seeds, queries],
                 full_losses [queries]: those of model/
groundtruth.json how it was made, where `headwater-index groundtruth` made it
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from headwater_indexer.errors import DataError

ARRAYS = "lds.npz"


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The arrays, and where the rest lies. A loss is the sum or the mean over the response: the order counts."""

    folder: Path
    masks: Bool[np.ndarray, "subsets documents"]
    losses: Float[np.ndarray, "subsets queries"]
    seed_losses: Float[np.ndarray, "subsets seeds queries"]

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def documents(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def queries(self) -> Path:
        return self.folder / "queries.jsonl"

    @classmethod
    def load(cls, folder: Path) -> "GroundTruth":
        """Raises DataError for a folder that is incomplete, or whose arrays do not fit one another."""
        path = folder / ARRAYS
        try:
            with np.load(path, allow_pickle=False) as arrays:
                masks, losses = arrays["masks"].astype(bool), arrays["losses"]
                seeds = arrays["seed_losses"] if "seed_losses" in arrays else losses[:, None, :]
        except FileNotFoundError as error:
            raise DataError(
                f"{folder} has no {ARRAYS}: it is no ground truth, or one that is still being made. "
                "`headwater-index groundtruth` makes one, and goes on where it was stopped"
            ) from error
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read as arrays `masks` and `losses` ({error})") from error
        shapes = (masks.ndim, losses.ndim, seeds.ndim) == (2, 2, 3)
        if not shapes or not len(masks) == len(losses) == len(seeds) or losses.shape[1] != seeds.shape[2]:
            raise DataError(
                f"{path}: masks {masks.shape}, losses {losses.shape} and seed_losses {seeds.shape} do not fit: they "
                "are [subsets, documents], [subsets, queries] and [subsets, seeds, queries]"
            )
        return cls(folder=folder, masks=masks, losses=losses, seed_losses=seeds)

    def check(self, *, documents: int, queries: int) -> None:
        """Raises DataError when an index or a file of queries is not the one that this truth is about."""
        if (documents, queries) != (self.masks.shape[1], self.losses.shape[1]):
            raise DataError(
                f"{self.folder} is about {self.masks.shape[1]} documents and {self.losses.shape[1]} queries, and here "
                f"are {documents} and {queries}: give the index and queries that it was made with"
            )
