"""A Ray cluster: joining it, and what it has room for."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headwater_indexer.errors import ClusterError, MissingPackage


def import_ray() -> Any:
    """Ray, which joins a cluster when it is told to alone: a thread that ends late would else start one anew.

    Raises MissingPackage with what to install.
    """
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # read when Ray is imported
    try:
        import ray
    except ImportError as error:
        raise MissingPackage("--engine ray needs Ray: run `pip install 'headwater[ray]'` on every node") from error
    return ray


def import_serve() -> Any:
    """Ray Serve, which tells no more of what it does than Ray. Raises MissingPackage likewise."""
    import_ray()
    try:
        from ray import serve
    except ImportError as error:
        raise MissingPackage("a server's --engine ray needs Ray Serve: run `pip install 'headwater[ray]'`") from error
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return serve


@contextmanager
def joined() -> Iterator[Any]:
    """Ray, connected to the cluster that RAY_ADDRESS names or that runs on this machine; else to one of this machine
    alone without a dashboard, which ends with the `with`. A connection that is there already is used, and stays."""
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"the Ray cluster {os.environ.get('RAY_ADDRESS', 'of this machine')} cannot be joined "
            f"({first_line(error)}): check RAY_ADDRESS, and `ray status`"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def first_line(error: BaseException) -> str:
    """Of its message, without the stop at its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def share_of_worker(ray: Any, gpus: int | None) -> dict[str, float]:
    """The CPUs and GPUs that a worker asks for: one GPU where the cluster has any and nothing else is said."""
    there = ray.cluster_resources()
    chosen = (1 if there.get("GPU", 0) >= 1 else 0) if gpus is None else gpus
    return {"num_cpus": 1, "num_gpus": chosen}


def room_for(ray: Any, share: dict[str, float]) -> int:
    """How many workers with such a share the cluster has room for. Raises ClusterError for none."""
    there = ray.cluster_resources()
    by = {"CPU": share["num_cpus"], "GPU": share["num_gpus"]}
    room = min(int(there.get(name, 0) // each) for name, each in by.items() if each)
    if not room:
        had = ", ".join(f"{there.get(name, 0):g} {name}s" for name in by)
        raise ClusterError(
            f"the cluster has no room for a worker with {by['CPU']:g} CPU and {by['GPU']:g} GPUs (it has {had}): "
            "add nodes, or ask for less with --gpus-per-worker"
        )
    return room
