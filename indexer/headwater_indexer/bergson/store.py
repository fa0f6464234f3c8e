"""A folder that bergson's `build` left, read without bergson and without unpickling anything.

info.json                num_grads, base_dtype, grad_sizes: numbers for each layer, in their order
gradients.bin            num_grads rows of these numbers, to be mapped
processor_config.yaml    how gradients were projected
normalizers.pth          none of them, or the store is refused: its gradients are of another kind
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float32

from headwater_indexer.bergson.matrices import matrix
from headwater_indexer.errors import DataError, ModelError
from headwater_indexer.layers import Layer
from headwater_indexer.projection import Projection, Projections

VERSION = 2  # of the random matrices
_ONLY = {
    "projection_target": "per_module",
    "reshape_to_square": False,
    "include_bias": False,
    "projection_version": VERSION,
}
_INFO, _GRADIENTS, _PROCESSOR = "info.json", "gradients.bin", "processor_config.yaml"


@dataclass(frozen=True)
class BergsonStore:
    """One row of projected gradients for each document, [rank, rank] of each layer after the other."""

    folder: Path
    layers: tuple[str, ...]  # bergson's names of them
    rank: int
    gradients: Any  # [documents, columns], mapped
    settings: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "BergsonStore":
        """Raises DataError for a folder that is none, is damaged, or holds gradients of a kind that is not read."""
        info, settings = _read(folder / _INFO, json.loads), _read(folder / _PROCESSOR, yaml.safe_load)
        try:
            sizes, count = dict(info["grad_sizes"]), int(info["num_grads"])
            dtype = np.dtype(np.uint16 if info["base_dtype"] == "bfloat16" else info["base_dtype"])
            rank = int(settings["projection_dim"] or 0)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder / _INFO} is not bergson's: {error!r} is missing or wrong") from error
        _refuse_other_kinds(folder, info, settings, rank, sizes)
        path, shape = folder / _GRADIENTS, (count, sum(sizes.values()))
        if not path.is_file() or path.stat().st_size != dtype.itemsize * shape[0] * shape[1]:
            raise DataError(f"{path} does not hold {shape[0]} rows of {shape[1]} numbers: build the store again")
        return cls(folder, tuple(sizes), rank, np.memmap(path, dtype=dtype, mode="r", shape=shape), settings)

    def __len__(self) -> int:
        return len(self.gradients)

    def rows(self, ordinals: range) -> Float32[np.ndarray, "documents columns"]:
        """The gradients of these documents. Raises DataError for one that is not finite."""
        block = np.array(self.gradients[ordinals.start : ordinals.stop])
        if block.dtype == np.uint16:  # bfloat16: the upper half of a float32
            block = (block.astype(np.uint32) << 16).view(np.float32)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise DataError(f"{self.folder}: row {ordinals.start + int(np.argmin(finite))} is not finite")
        return block.astype(np.float32)

    def among(self, layers: Mapping[str, Layer]) -> list[Layer]:
        """The model's layers that the store names, which leaves out what stands before them in the model.

        Raises ModelError for a name that the model does not have, or has twice, and for a rank above its width.
        """
        found = []
        for name in self.layers:
            fitting = [layer for full, layer in layers.items() if full == name or full.endswith(f".{name}")]
            if len(fitting) != 1:
                raise ModelError(f"{self.folder} names a layer {name!r}, and the model has {len(fitting)} of it")
            found += fitting
            if min(found[-1].in_dim, found[-1].out_dim) < self.rank:
                raise ModelError(f"{self.folder} has {self.rank} dimensions of {name!r}, which is narrower than that")
        return found

    def projections(self, layers: list[Layer]) -> Projections:
        """The matrices that the gradients were projected by, for `among`'s layers."""
        by_layer = {}
        for name, layer in zip(self.layers, layers, strict=True):
            by_layer[layer.name] = Projection(
                input=self._matrix(name, "right", layer.in_dim), output=self._matrix(name, "left", layer.out_dim)
            )
        return Projections(by_layer)

    def _matrix(self, layer: str, side: str, columns: int) -> torch.Tensor:
        seed = self.settings.get("projection_seed")
        name = f"{layer}/{side}" + ("" if seed is None else f"/seed{seed}")
        kind, scale = self.settings["projection_type"], self.settings["projection_scale"]
        return torch.from_numpy(matrix(name, self.rank, columns, kind=kind, scale=scale))


def _read(path: Path, parse: Any) -> Any:
    try:
        found = parse(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: give a folder that bergson's `build` has finished") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not bergson's: it holds no fields")
    return found


def _refuse_other_kinds(
    folder: Path, info: Mapping[str, Any], settings: Mapping[str, Any], rank: int, sizes: Mapping[str, Any]
) -> None:
    """Raises DataError for gradients that questions could not be projected like, or that are not whole documents'."""
    if info.get("attribute_tokens"):
        raise DataError(f"{folder} holds gradients of tokens: build it without attribute_tokens")
    if rank < 1 or any(size != rank * rank for size in sizes.values()):
        raise DataError(f"{folder} does not hold projections of both sides of each layer: give a projection_dim")
    for name, wanted in _ONLY.items():
        if settings.get(name, wanted if name != "projection_version" else 1) != wanted:
            raise DataError(f"{folder} was built with {name} {settings.get(name, 1)!r}; only {wanted!r} is read")
    kinds = settings.get("projection_type"), settings.get("projection_scale")
    if kinds[0] not in ("rademacher", "normal") or kinds[1] not in ("jl", "row_norm"):
        raise DataError(f"{folder} was projected by matrices of an unknown kind: {kinds[0]}, {kinds[1]}")
    normalizers = folder / "normalizers.pth"
    if normalizers.exists() and any("/data/" in name for name in zipfile.ZipFile(normalizers).namelist()):
        raise DataError(f"{folder} holds gradients normalised as an optimiser would: build it without normalizers")
