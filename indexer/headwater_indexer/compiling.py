"""What the kernels that numba compiles share: whether there is numba, and how they are compiled.

Modules named `..._kernel` import numba, and are imported where there is one alone.
"""

from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any

from headwater_indexer.errors import MissingPackage


@cache
def has_numba() -> bool:
    """Whether a kernel can be compiled."""
    return find_spec("numba") is not None


def require_numba(purpose: str, otherwise: str) -> None:
    """Raises MissingPackage with what to install, or to do `otherwise`."""
    if not has_numba():
        raise MissingPackage(f"{purpose} needs numba: pip install 'headwater[cpu]' (or [gpu]), or {otherwise}")


def compiled(function: Any, *, fast: bool = True) -> Any:
    """By numba, at the first call; it holds no lock of the interpreter.

    `fast` may make sums in any order, and takes it that no number is NaN or infinite. What was compiled is kept for
    other processes, beside the source or in the user's cache: compiling takes seconds.
    """
    import numba

    njit: Any = numba.njit
    options = {"nogil": True, "error_model": "numpy", "fastmath": fast}
    try:
        kernel = njit(function, cache=True, **options)
    except RuntimeError:  # neither folder can be written
        return njit(function, **options)
    keep = kernel._cache.save_overload

    def keep_if_there_is_room(*what: Any) -> None:
        with suppress(OSError):  # the next process then compiles again; this one has what it needs
            keep(*what)

    kernel._cache.save_overload = keep_if_there_is_room
    return kernel
