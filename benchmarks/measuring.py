"""Times and memory: passes interleaved round by round, so that a busy machine slows all of them alike."""

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch
import typer

THREADS = 2


def interleaved(passes: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each pass in each round, after one round that is not counted. Every other round goes backward."""
    names = list(passes)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            _wait(device)
            started = time.perf_counter()
            passes[name]()
            _wait(device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def median_ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> float:
    """How fast `name` is, `to` being 1: the median over rounds of the two times in that round."""
    return statistics.median(b / a for a, b in zip(seconds[name], seconds[to], strict=True))


def current_bytes(device: torch.device) -> int:
    """Memory in use now; the peak is counted from here on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return _status("VmRSS")


def peak_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _status("VmHWM")


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores, {platform.machine()}, {torch.get_num_threads()} threads, no GPU used"


def described(device: torch.device) -> dict[str, str]:
    """When, where and with what."""
    versions = {name: version(name) for name in ("torch", "transformers")}
    return {"date": date.today().isoformat(), "machine": machine(device), **versions}


def conclude(report: Mapping[str, Any]) -> NoReturn:
    """Prints what was found; the status is 0 only when nothing falls short."""
    typer.echo(json.dumps(report, indent=1))
    raise typer.Exit(1 if report["falls_short"] else 0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _status(field: str) -> int:
    """Of this process. ru_maxrss would on Linux begin with what the parent process had."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
