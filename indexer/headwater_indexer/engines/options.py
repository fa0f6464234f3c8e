"""What a person chooses of an engine. It changes when and where a build works, and nothing of what it makes."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from headwater_indexer.errors import UsageError

EngineKind = Literal["local", "ray"]


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The commands take their options, defaults and help from these fields."""

    engine: EngineKind = _option(
        "local", "local: this process captures. ray: the workers of a Ray cluster do, which RAY_ADDRESS names."
    )
    workers: int | None = _option(
        None, "Ray: workers, each with a model of its own. (default: as many as the cluster has room for)"
    )
    gpus_per_worker: int | None = _option(
        None, "Ray: GPUs of each worker; several with --device balanced. (default: 1, or 0 on a cluster without GPUs)"
    )

    def __post_init__(self) -> None:
        """Raises UsageError for what no cluster can give."""
        if self.engine not in get_args(EngineKind):
            raise UsageError(f"--engine {self.engine}: choose {' or '.join(get_args(EngineKind))}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}: it must be at least 1")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise UsageError(f"--gpus-per-worker {self.gpus_per_worker}: it must be at least 0")
        if self.engine == "local" and (self.workers, self.gpus_per_worker) != (None, None):
            raise UsageError("--workers and --gpus-per-worker are for --engine ray")
