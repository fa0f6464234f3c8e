"""Memory: what this process holds, and budgets in words such as 8GB."""

import re
from pathlib import Path

from headwater_indexer.errors import UsageError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str) -> int:
    """Bytes: `8GB` is 8e9, `8GiB` 8 * 2^30. Raises UsageError."""
    found = _SIZE.fullmatch(text)
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or float(found[1]) <= 0:
        raise UsageError(f"--memory {text}: give a size such as 8GB, 500MB or 16GiB")
    return int(float(found[1]) * unit)


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def resident() -> int:
    """What the process holds now; 0 where the system does not tell."""
    return _status("VmRSS")


def peak() -> int:
    """The most that it has held; 0 where the system does not tell."""
    return _status("VmHWM")


def _status(field: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
