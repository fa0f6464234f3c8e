"""The engine that was asked for, for the time of a build."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from headwater_indexer.engines.capturer import Capturer
from headwater_indexer.engines.engine import Engine
from headwater_indexer.engines.local import LocalEngine
from headwater_indexer.engines.options import EngineOptions


@contextmanager
def opened(
    capturer: Capturer, options: EngineOptions, *, device: str, gradient_checkpointing: bool
) -> Iterator[Engine]:
    """`capturer` has the driver's model; workers load their own, on `device`.

    Raises ClusterError, and MissingPackage without Ray.
    """
    if options.engine == "local":
        yield LocalEngine(capturer)
        return
    from headwater_indexer.engines.ray import Loading, RayEngine

    loading = Loading.like(capturer, device=device, gradient_checkpointing=gradient_checkpointing)
    with closing(RayEngine(loading, options)) as engine:
        yield engine
