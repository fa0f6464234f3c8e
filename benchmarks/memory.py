"""Peak memory of a pass, measured in a process of its own, so that no pass profits from what another left behind."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from measuring import THREADS, current_bytes, peak_bytes
from passes import prepare
from workloads import Family, make_model, windows_of


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One variant of a pass on windows of these lengths, in batches of `rows`."""

    family: Family
    variant: str
    lengths: Sequence[int]
    rows: int
    device: str


def measure(trials: Sequence[Trial]) -> list[dict[str, int]]:
    """Bytes of each trial: the process's (or the GPU's) `peak`, and what of it the pass `added` to the model."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers"])  # imports once, so that a child begins at once
    workers = (
        1 if any(trial.device == "cuda" for trial in trials) else THREADS
    )  # what is free of a GPU is not a process's own
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as children:
        return list(children.map(_measure, trials))


def _measure(trial: Trial) -> dict[str, int]:
    torch.set_num_threads(THREADS)
    device = torch.device(trial.device)
    model = make_model(trial.family, device)
    windows = windows_of(trial.lengths, model.config.vocab_size)
    short = windows_of([8] * 2, model.config.vocab_size)
    prepare(trial.variant, model, short, 2)()  # libraries make their buffers
    run = prepare(trial.variant, model, windows, trial.rows)
    before = current_bytes(device)
    run()
    return {"peak": peak_bytes(device), "added": peak_bytes(device) - before}
