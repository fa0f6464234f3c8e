"""Rescored influence as a matrix of all documents, as attributions are graded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from headwater_indexer.errors import UsageError
from headwater_indexer.index import Index
from headwater_indexer.windows import Pair

Matrix = Float32[np.ndarray, "queries documents"]


@dataclass(frozen=True, kw_only=True)
class Rescoring:
    """How many of each query's best documents are scored again (None: all), with how many steps past EK-FAC."""

    candidates: int | None = None
    refine: int = 0

    @classmethod
    def parse(cls, rescore: str | None, refine: int) -> "Rescoring | None":
        """From `--rescore all|N` and `--refine N`; None where nothing is asked. Raises UsageError."""
        if rescore is None:
            if refine:
                raise UsageError(f"--refine {refine} needs --rescore all, or --rescore with a number of candidates")
            return None
        if rescore == "all":
            return cls(refine=refine)
        if not rescore.isdecimal() or int(rescore) < 1:
            raise UsageError(f"--rescore {rescore}: give all, or how many of the best documents are scored again")
        return cls(candidates=int(rescore), refine=refine)


def rescored_matrix(index: Index, pairs: Sequence[Pair], influence: Matrix | None, how: Rescoring) -> Matrix:
    """`influence`, by the index's rows, with the candidates' scores in their places; not looked at for all documents.

    What is not scored again keeps its influence, brought to the candidates' scale by least squares.
    """
    if how.candidates is None or influence is None:
        return np.stack(index.rescore(pairs, None, refine=how.refine))
    best = np.argsort(-influence, axis=1, kind="stable")[:, : how.candidates]
    rescored = index.rescore(pairs, best.tolist(), refine=how.refine)
    return np.stack([_merged(*row) for row in zip(influence, best, rescored, strict=True)])


def _merged(
    influence: Float32[np.ndarray, " documents"], best: np.ndarray, rescored: Float32[np.ndarray, " candidates"]
) -> Float32[np.ndarray, " documents"]:
    own = influence[best].astype(np.float64)
    square = own @ own
    merged = influence * (own @ rescored / square if square > 0 else 1)
    merged[best] = rescored
    return merged.astype(np.float32)
