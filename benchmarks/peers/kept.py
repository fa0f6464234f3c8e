"""Results on disk, under a name that changes with all that they depend on."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import headwater_indexer

HERE = Path(__file__).parent
IN_THIS_ENVIRONMENT = ("headwater", "baselines")


@dataclass(frozen=True)
class Kept:
    root: Path

    def folder(self, rival: str, adapter: Path, task: dict[str, Any]) -> Path:
        """Of one point: the adapter's code, what is asked of it, its requirements or our own code, and the data."""
        digest = hashlib.sha256(json.dumps(task, sort_keys=True).encode())
        for file in (adapter, HERE / "rivals" / "contract.py", Path(task["tokens"])):
            digest.update(file.read_bytes())
        if rival in IN_THIS_ENVIRONMENT:
            digest.update(self._our_code.encode())
        else:
            digest.update((HERE / "requirements" / f"{rival}.txt").read_bytes())
        return self.root / f"{rival}-{digest.hexdigest()[:16]}"

    @cached_property
    def _our_code(self) -> str:
        package = Path(headwater_indexer.__file__).parent
        files = sorted(package.rglob("*.py"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
