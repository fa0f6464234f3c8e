"""Files that stay open to be read from anywhere, more of them than a process is allowed at first."""

import os
import resource
from collections.abc import Sequence
from pathlib import Path

from headwater_indexer.errors import StorageError

SPARE = 256  # files that a process opens beside: connections, libraries, logs


class OpenFiles:
    """Descriptors by number, closed with the last reference to this object."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises the process's own limit where need be; StorageError where the system's is lower."""
        self._descriptors: list[int] = []
        _allow(len(paths))
        for path in paths:
            self._descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def __getitem__(self, number: int) -> int:
        return self._descriptors[number]

    def __del__(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)


def _allow(more: int) -> None:
    """Room for so many files beside those that are open now."""
    wanted = sum(1 for _ in Path("/dev/fd").iterdir()) + more + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise StorageError(
            f"the index has {more:,} files of rows, and this process may open {hard:,} files: raise its limit "
            f"(ulimit -n {wanted}, or LimitNOFILE, or --ulimit nofile={wanted} of a container)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
