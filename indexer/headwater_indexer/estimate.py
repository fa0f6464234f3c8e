"""What a build will take, said before it starts: sizes from counts, time from a timed sample."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater_indexer.batches import Batch
from headwater_indexer.codes.budget import RowPlan
from headwater_indexer.ekfac.factors import factors_bytes
from headwater_indexer.errors import ConfigurationError, StorageError
from headwater_indexer.gradients import documents_for_hessian, shard_size
from headwater_indexer.layers import Layer
from headwater_indexer.memory import peak
from headwater_indexer.memory import size as _size
from headwater_indexer.moments import moments_bytes, sample_tokens
from headwater_indexer.options import BuildOptions

HESSIAN_SHARE = 0.15  # of the capture's time, for the passes over the store that follow it
FACTOR_PASSES = 3  # what fitting EK-FAC factors to a token takes, in captures of it
SHARDS_IN_MEMORY = 5  # as captured, whitened, and in codes; what they are made of; and as a file
MOMENTS_COST = 1.5  # of the capture of as many tokens


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Sizes in bytes, time in seconds."""

    documents: int
    windows: int
    tokens: int
    width: int
    row: str
    row_bytes: int
    disk_bytes: int  # at its peak, beside the documents
    moments_bytes: int  # of memory, for a part's and for those of all; 0 when the projections need none
    hessian_bytes: int  # of memory
    factor_bytes: int  # of memory and of disk; 0 when no candidates are to be scored again
    shard_bytes: int  # of the rows that are captured together, in float32
    seconds: float

    @property
    def memory_bytes(self) -> int:
        """At most, of the steps that follow the first captures, beside what the process held then."""
        return max(self.moments_bytes, self.hessian_bytes, self.factor_bytes) + SHARDS_IN_MEMORY * self.shard_bytes

    def __str__(self) -> str:
        lines = [
            f"{self.documents:,} documents in {self.windows:,} windows, {self.tokens:,} tokens",
            f"{self.row}: {_size(self.row_bytes)} a document, {_size(self.disk_bytes)} of disk at most",
            f"memory beside the model: {_size(self.moments_bytes)} for second moments, "
            f"{_size(self.hessian_bytes)} for the Hessian",
            f"about {_duration(self.seconds)} from here",
        ]
        if self.factor_bytes:
            lines.insert(2, f"{_size(self.factor_bytes)} of disk and of memory for EK-FAC factors")
        return "\n".join(lines)


def estimate_build(
    options: BuildOptions,
    layers: Sequence[Layer],
    plan: RowPlan,
    *,
    documents: int,
    windows: int,
    tokens: int,
    tokens_per_second: float,
    keep_gradients: bool,
) -> Estimate:
    """What this build will take, given its corpus in numbers and a measured rate of capture."""
    shapes = [(min(plan.rank, layer.out_dim), min(plan.rank, layer.in_dim)) for layer in layers]
    factors = factors_bytes(layers) if options.factors else 0
    fitted = min(tokens, options.factor_tokens) if options.factors else 0
    sampled = 0
    if options.projection != "random":
        sampled = sample_tokens(layers, corpus=tokens, at_most=options.moment_tokens)
    hessian = sum(
        4 * (out * into) ** 2 if options.hessian == "raw" else 8 * (out**2 + into**2 + out * into)
        for out, into in shapes
    )
    kept = documents_for_hessian(options, documents, plan.width, everything=keep_gradients)
    return Estimate(
        documents=documents,
        windows=windows,
        tokens=tokens,
        width=plan.width,
        row=_row(plan),
        row_bytes=plan.bytes,
        # A shard of the gradients that the Hessian is fitted on goes as its whitened rows come.
        disk_bytes=plan.bytes * documents + 4 * plan.width * kept + factors,
        moments_bytes=2 * moments_bytes(layers) if sampled else 0,
        hessian_bytes=hessian,
        factor_bytes=factors,
        shard_bytes=4 * plan.width * min(documents, shard_size(plan.width)),
        seconds=(MOMENTS_COST * sampled + FACTOR_PASSES * fitted + tokens * (1 + HESSIAN_SHARE)) / tokens_per_second,
    )


def _row(plan: RowPlan) -> str:
    if plan.code_bytes is None:
        return f"{plan.columns:,} columns of {plan.bits} bits (rank {plan.rank})"
    of = "" if plan.columns == plan.width else f" of {plan.width:,}"
    return f"{plan.columns:,}{of} columns, {plan.columns / plan.code_bytes:.3g} in a byte (rank {plan.rank})"


def measure_rate(run: Callable[[Batch], object], warm_up: Batch, batches: Sequence[Batch]) -> float:
    """Tokens a second of `run` over a few batches, after one that is not counted."""
    run(warm_up)
    start = time.perf_counter()
    for batch in batches:
        run(batch)
    return sum(int(batch.attention_mask.sum()) for batch in batches) / (time.perf_counter() - start)


def check_memory(budget: int, needed: int) -> None:
    """Raises ConfigurationError when what the process held at most so far and `needed` more are above the budget."""
    held = peak()
    if held + needed > budget:
        raise ConfigurationError(
            f"--memory {_size(budget)}: the model and a first batch took {_size(held)}, and the rest of the build "
            f"needs {_size(needed)} more: raise it, or lower --bytes, --rank or --batch-tokens"
        )


def check_disk(folder: Path, needed: int) -> None:
    """Raises StorageError when the disk of `folder` has fewer than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder} has {_size(free)} free and the build needs {_size(needed)}: free some space, choose another "
            "--out, or a lower --rank"
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
