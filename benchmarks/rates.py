"""A server under a steady rate of requests, and the asking itself under the same rate: what became of each request.

The server and what is compared with it have all cores of this process but one; load.py, which asks, has that one to
itself. A server that shared its cores with whoever asks it would be measured together with them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from serving import Served

HERE = Path(__file__).parent
WINDOWS = 12  # in which memory is watched


def part_cores() -> tuple[list[int], list[int]]:
    """Cores for the server and cores for asking; one core, or a system that cannot bind to cores, is for both."""
    if not hasattr(os, "sched_getaffinity"):
        return [], []
    cores = sorted(os.sched_getaffinity(0))
    return cores[:-1] or cores, cores[-1:]


def bind(cores: Sequence[int], process: int = 0) -> None:
    """This thread and what it starts, or another process."""
    if cores:
        os.sched_setaffinity(process, cores)


def ask_at(rate: float, seconds: float, served: Served, asked: Sequence[Any], cores: Sequence[int]) -> dict[str, Any]:
    """What became of the requests of an open loop; times in milliseconds, rates in requests a second."""
    with ThreadPoolExecutor(1) as beside:
        asking = beside.submit(_ask, rate, seconds, served.host, served.port, asked, cores)
        peaks = list(_memory_peaks(served, seconds))
        samples = asking.result()
    return {**told(samples, rate, seconds), "peak_mb": [round(size / 1e6, 1) for size in peaks]}


def asking_alone(rate: float, seconds: float, asked: Sequence[Any], cores: Sequence[int]) -> dict[str, Any]:
    """The same asking of a server that refuses all without a look at it: what of the times is not the server's."""
    with _refusing_all() as port:
        return told(_ask(rate, seconds, "127.0.0.1", port, asked, cores), rate, seconds)


def told(samples: np.ndarray, rate: float, seconds: float) -> dict[str, Any]:
    due, sent, done, status = samples.T
    answered, refused = status == 200, status == 429
    other = ~answered & ~refused
    took = 1000 * (done - due)
    return {
        "rate": round(rate, 1),
        "seconds": seconds,
        "sent": len(samples),
        "answered": int(answered.sum()),
        "refused": int(refused.sum()),
        "lost": int((status == 0).sum()),
        "other_statuses": sorted({int(one) for one in status[other]}),
        "goodput": round(goodput(done[answered], seconds), 1),
        "answer_p50_ms": quantile(took[answered], 50),
        "answer_p99_ms": quantile(took[answered], 99),
        "refusal_p50_ms": quantile(1000 * (done - sent)[refused], 50),
        "refusal_p99_ms": quantile(1000 * (done - sent)[refused], 99),
        "late_p99_ms": quantile(1000 * (sent - due), 99),  # of whoever asks, not of the server
    }


def goodput(done: np.ndarray, seconds: float) -> float:
    """Answers a second while requests came, the first fifth left out: the queue fills then.

    The slope of their count over time: they come by the batch, and a mere count would err by a batch.
    """
    times = np.linspace(seconds / 5, seconds, 400)
    slope: float = np.polyfit(times, np.searchsorted(np.sort(done), times), 1)[0]
    return max(0.0, slope)


def quantile(values: Sequence[float] | np.ndarray, percent: float) -> float:
    return round(float(np.percentile(values, percent)), 2) if len(values) else 0.0


def _ask(rate: float, seconds: float, host: str, port: int, asked: Sequence[Any], cores: Sequence[int]) -> np.ndarray:
    """Rows of [due, sent, done, status], by load.py."""
    plan = {"host": host, "port": port, "rate": rate, "seconds": seconds, "bodies": list(asked), "cores": list(cores)}
    command = [sys.executable, str(HERE / "load.py")]
    ended = subprocess.run(command, input=json.dumps(plan), stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return np.array(json.loads(ended.stdout), dtype=float).reshape(-1, 4)


def _memory_peaks(served: Served, seconds: float) -> Iterator[int]:
    """The most bytes that were resident in each of WINDOWS equal times."""
    for _ in range(WINDOWS):
        served.forget_peak()
        time.sleep(seconds / WINDOWS)
        yield served.peak_bytes


@contextmanager
def _refusing_all() -> Iterator[int]:
    command = [sys.executable, str(HERE / "refusing.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        yield int(process.stdout.readline() if process.stdout is not None else "")
    finally:
        process.kill()
        process.wait()
