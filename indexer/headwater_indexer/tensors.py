"""Tensors in files of an index: what is wrong with a file is told with its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from headwater_indexer.errors import IndexDamaged


@contextmanager
def reading_tensors(path: Path) -> Iterator[None]:
    """Turns what is raised for a file that does not hold the tensors that it should into IndexDamaged."""
    try:
        yield
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IndexDamaged(f"{path} cannot be read ({said}): copy it again, or build the index again") from error
