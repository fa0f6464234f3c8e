"""An index in numbers: its documents and sources, how long their rows are, and what takes room on the disk."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from headwater_indexer.catalogue import open_catalogue
from headwater_indexer.lengths import stored_lengths
from headwater_indexer.manifest import Manifest
from headwater_indexer.workspace import Workspace

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
MOST_SOURCES = 20
PARTS = {
    "documents.sqlite": "documents",
    "words.sqlite": "words",
    "search.faiss": "search",
    "norms.safetensors": "search",
    "projections.safetensors": "projections",
    "whitener.safetensors": "Hessian",
    "factors.safetensors": "factors",
    "codes.safetensors": "codes",
}  # by a file's name; others by their folder's


def describe(folder: Path) -> dict[str, Any]:
    """Of the current version, removed documents left out but for the room that they take. Raises IndexDamaged."""
    manifest = Manifest.read(folder)
    with open_catalogue(folder, manifest) as there:
        numbering, sources = there.numbering, there.sources()
    parts = [Workspace(folder).segment(segment.folder) for segment in manifest.segments]
    lengths = np.concatenate([stored_lengths(part, manifest.rows) for part in parts])
    removed = 0 if manifest.removed is None else manifest.removed.documents
    return {
        "version": manifest.number,
        "documents": manifest.documents,
        "removed_and_on_the_disk": removed,
        "without_gradient": manifest.documents_without_gradient,
        "tokens": manifest.tokens,
        "segments": [segment.documents for segment in manifest.segments],
        "row_lengths": _spread(np.delete(lengths, numbering.removed)),
        "sources": {"named": len(sources), "largest": dict(list(sources.items())[:MOST_SOURCES])},
        "bytes": _bytes(manifest),
        "bytes_on_the_disk": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def _spread(lengths: Float[np.ndarray, " documents"]) -> dict[str, float]:
    """Least, greatest, mean, and quantiles. A few rows that are far longer than most dominate plain influence."""
    named = {
        f"{100 * share:g}%": value for share, value in zip(QUANTILES, np.quantile(lengths, QUANTILES), strict=True)
    }
    ends = {"least": lengths.min(), **named, "greatest": lengths.max(), "mean": lengths.mean(dtype=np.float64)}
    return {name: float(f"{value:.6g}") for name, value in ends.items()}


def _bytes(manifest: Manifest) -> dict[str, int]:
    """Of the files of this version, by what they are for, and in all."""
    found = Counter[str]()
    for file in manifest.files:
        path = PurePosixPath(file.path)
        found[PARTS.get(path.name, path.parent.name or path.name)] += file.bytes
    return {**dict(sorted(found.items())), "in all": manifest.bytes}
