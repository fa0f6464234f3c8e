"""What a searcher is asked, and asked again where the replica that had the question is lost: Ray Serve does not."""

import time
from typing import Any

from headwater_indexer.engines.cluster import import_ray
from headwater_indexer.errors import ClusterError

_PAUSE = 0.05  # seconds, until Ray Serve has noticed that a replica is gone


def answer(method: Any, *given: Any, patience: float) -> Any:
    """What a method of a searcher's handle returns, in at most `patience` seconds.

    Raises what the searcher raised, and ClusterError when there is no answer in this time.
    """
    ray = import_ray()
    from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

    stopped = (ray.exceptions.RayActorError, ray.exceptions.TaskCancelledError, RayServeException)
    until = time.monotonic() + patience
    while True:
        response = None
        try:
            response = method.remote(*given)
            return response.result(timeout_s=max(0.0, until - time.monotonic()))
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, stopped):
                raise _told(error) from None
            lost: Exception = error
        except DeploymentUnavailableError as error:
            raise ClusterError("a part of the index is not served any more, or could not be started") from error
        except (TimeoutError, ray.exceptions.RayError, RayServeException) as error:
            lost = error
        if time.monotonic() + _PAUSE >= until:
            if response is not None:
                response.cancel()
            raise ClusterError(
                f"a part of the index has not answered for {patience:g} s: its node may be lost, and the cluster may "
                "have no room to start it elsewhere"
            ) from lost
        time.sleep(_PAUSE)


def _told(error: Any) -> Exception:
    """What a searcher raised, by what Ray made of it."""
    if isinstance(error.cause, Exception):
        return error.cause
    return ClusterError("a part of the index cannot be searched: the log of its replica says why")
