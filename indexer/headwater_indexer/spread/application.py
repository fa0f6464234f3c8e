"""The searchers of an open index as an application of Ray Serve, in which each is a deployment of some replicas.

Ray Serve's applications outlast the process that started them, however it ended. So there is an actor beside each,
which ends with its process: an application without one is left over, and whoever opens an index next deletes it.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from headwater_indexer.engines.cluster import import_ray, import_serve
from headwater_indexer.spread.searcher import PartSearcher

_PREFIX = "headwater-index-"  # of the names of applications
_NAMESPACE = "headwater"  # of the names of the actors beside them, which are the same
_OPTIONS = {
    "max_ongoing_requests": 8,  # of a replica; the products in them use all of its cores
    "ray_actor_options": {"num_cpus": 1},
    "health_check_period_s": 2.0,  # so soon is a lost replica started anew
    "health_check_timeout_s": 30.0,  # a replica answers late while all of its cores compute
    "graceful_shutdown_wait_loop_s": 0.2,
    "graceful_shutdown_timeout_s": 10.0,
}


class _First(PartSearcher):
    """The searcher that Ray Serve takes for the entrance. It is given the others, which belong to it, and asks none."""

    def __init__(self, _others: Sequence[Any], *given: Any) -> None:
        super().__init__(*given)


class _Beside:
    """Says by its life that the process lives which opened the index."""


class Application:
    """Deployments of one open index. Replicas are on different nodes, as far as there are nodes."""

    def __init__(self, searchers: Mapping[int, Sequence[Any]], replicas: int) -> None:
        """What a PartSearcher is made of, by the searcher's number. Does not wait for the replicas."""
        self._ray, self._serve = ray, serve = import_ray(), import_serve()
        serve.start(proxy_location="Disabled")
        self._delete_left_over()
        self.name = f"{_PREFIX}{uuid4().hex[:12]}"
        self._beside = _start_beside(ray, self.name)
        together = math.ceil(replicas / max(1, nodes(ray)))

        def made(kind: type, number: int, *given: Any) -> Any:
            deployment = serve.deployment(kind, name=_deployment(number), num_replicas=replicas, **_OPTIONS)
            return deployment.options(max_replicas_per_node=together).bind(*given)

        (first, given), *others = searchers.items()
        whole = made(_First, first, [made(PartSearcher, n, *its) for n, its in others], *given)
        target = serve.RunTarget(target=whole, name=self.name, route_prefix=None)
        serve.run_many([target], wait_for_applications_running=False)
        self.handles = {number: serve.get_deployment_handle(_deployment(number), self.name) for number in searchers}

    def _delete_left_over(self) -> None:
        for name in self._serve.status().applications:
            if name.startswith(_PREFIX) and not lives(self._ray, name):
                self._serve.delete(name, _blocking=False)

    def close(self) -> None:
        """Deletes the application, and does not wait for it. Who still waits for an answer gets a ClusterError."""
        from ray.serve.exceptions import RayServeException

        with suppress(self._ray.exceptions.RayError, RayServeException):  # a cluster that is lost has lost it too
            self._serve.delete(self.name, _blocking=False)
            self._serve.status()  # what has been said before it has been heard
        self._ray.kill(self._beside)


def _deployment(searcher: int) -> str:
    return f"searcher-{searcher}"


def _start_beside(ray: Any, name: str) -> Any:
    """On the node of this process: another may be lost while this process lives."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": name, "namespace": _NAMESPACE, "num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
    return ray.remote(_Beside).options(**options).remote()


def lives(ray: Any, name: str) -> bool:
    """Whether the process does that opened this application."""
    with suppress(ValueError):
        return bool(ray.get_actor(name, namespace=_NAMESPACE))
    return False


def nodes(ray: Any) -> int:
    """Of the cluster, alive and with a CPU for a searcher."""
    return sum(bool(node["Alive"] and node["Resources"].get("CPU", 0) >= 1) for node in ray.nodes())
