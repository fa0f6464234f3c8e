"""A model's self-test: which layers can be watched, and whether a row depends on what runs beside it.

A document's row must be the same in any batch. Kernels of attention and few bits can break this, so that it is measured
for each kernel that the machine has, on random tokens, against each window alone.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from headwater_indexer.batches import Batch, batches, packs
from headwater_indexer.capture import capturing
from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.errors import ModelError
from headwater_indexer.layers import KEYWORDS, Layer, select_layers, watchable_layers
from headwater_indexer.moments import moments_bytes
from headwater_indexer.packed_attention import can_pack
from headwater_indexer.projection import make_projections
from headwater_indexer.unwatched import refused_layers
from headwater_indexer.windows import Window

LENGTHS = (60, 44, 44, 44, 23, 9)  # tokens: three side by side without padding, others with more and more of it
RANK = 8  # of the projections of the test: the dependence is one of the gradients, not of what they are seen through
# Of a row's length: rounding in other orders. 16 bits have 8 of mantissa, which add up over a model's layers.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05}


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What one kernel of attention does. Differences are the largest among rows, relative to the row alone."""

    name: str
    in_use: bool  # the one that a build takes
    packed: bool  # whether windows are packed end to end, without padding
    beside_others: float | None = None  # in a batch of its own length
    with_padding: float | None = None
    in_a_pack: float | None = None
    failure: str | None = None  # why it cannot be used here

    @property
    def largest(self) -> float:
        """Not a number counts as infinite."""
        found = [d for d in (self.beside_others, self.with_padding, self.in_a_pack) if d is not None]
        return max((d if d == d else float("inf") for d in found), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Watched layers of one kind in all blocks: their path with * for numbers."""

    path: str
    count: int
    in_dim: int
    out_dim: int


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a keyword of --layers watches."""

    keyword: str
    shapes: tuple[Shape, ...]
    moments_bytes: int  # of memory, for projections that are fitted
    refused: str | None  # why a build with it would not begin


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """All that the self-test found."""

    model: str
    architecture: str
    dtype: str
    device: str
    parameters: int
    longest_window: int | None  # tokens
    chat_template: bool
    tolerance: float
    kernels: tuple[Kernel, ...]
    kinds: tuple[Kind, ...]
    refused: dict[str, str]  # weights that cannot be watched, with the reason

    @property
    def independent(self) -> bool:
        """Whether rows are the same in any batch, with the kernel that a build takes."""
        return all(kernel.largest <= self.tolerance and not kernel.failure for kernel in self.kernels if kernel.in_use)


def check_model(checkpoint: Checkpoint, layers: str | None = None) -> ModelReport:
    """Measures rows over the chosen layers, or over all that can be watched. Raises ModelError where there are none."""
    model = checkpoint.model
    watched = select_layers(model, layers) if layers else list(watchable_layers(model).values())
    if not watched:
        raise ModelError(f"{checkpoint.id}: this {type(model).__name__} has no layers that can be watched")
    return ModelReport(
        model=checkpoint.id,
        architecture=type(model).__name__,
        dtype=checkpoint.dtype,
        device=str(checkpoint.device),
        parameters=model.num_parameters(),
        longest_window=checkpoint.max_length,
        chat_template=bool(checkpoint.tokenizer.chat_template),
        tolerance=TOLERANCE.get(model.dtype, max(TOLERANCE.values())),
        kernels=tuple(_kernels(model, watched, _windows(checkpoint))),
        kinds=tuple(_kind(model, keyword) for keyword in KEYWORDS),
        refused=refused_layers(model),
    )


def _windows(checkpoint: Checkpoint) -> list[Window]:
    draw = np.random.default_rng(0)
    vocabulary = len(checkpoint.model.get_input_embeddings().get_parameter("weight"))
    longest = checkpoint.max_length or max(LENGTHS)
    return [
        Window(input_ids=draw.integers(vocabulary, size=min(length, longest)).astype(np.int32), first_target=1)
        for length in LENGTHS
    ]


def _kernels(model: PreTrainedModel, layers: Sequence[Layer], windows: Sequence[Window]) -> Iterator[Kernel]:
    own = str(model.config._attn_implementation)
    yield _measured(model, own, layers, windows, in_use=True)
    for name in ("eager", "sdpa", "flex_attention", "flash_attention_2"):
        if name == own:
            continue
        if (reason := _missing(name, model.device)) is not None:
            yield Kernel(name=name, in_use=False, packed=False, failure=reason)
            continue
        with _attending_by(model, name) as failure:
            if failure is None:
                yield _measured(model, name, layers, windows, in_use=False)
            else:
                yield Kernel(name=name, in_use=False, packed=False, failure=failure)


def _missing(name: str, device: torch.device) -> str | None:
    if name.startswith("fl") and device.type == "cpu":
        return "needs a GPU"
    if name == "flash_attention_2" and not is_flash_attn_2_available():
        return "flash-attn is not installed"
    return None


@contextmanager
def _attending_by(model: PreTrainedModel, name: str) -> Iterator[str | None]:
    """Gives why the model does not take this kernel; None where it does."""
    before = model.config._attn_implementation
    try:
        try:
            model.set_attn_implementation(name)
            failure = None if model.config._attn_implementation == name else "the model keeps its own"
        except (ValueError, ImportError) as error:
            failure = f"the model does not take it: {_first_sentence(error)}"
        yield failure
    finally:
        model.set_attn_implementation(before)


def _measured(
    model: PreTrainedModel, name: str, layers: Sequence[Layer], windows: Sequence[Window], *, in_use: bool
) -> Kernel:
    try:
        packed = can_pack(model)
        alone = _rows(model, layers, [[window] for window in windows], batches)
        alike = [[window for window in windows if len(window.input_ids) == length] for length in _lengths(windows)]
        return Kernel(
            name=name,
            in_use=in_use,
            packed=packed,
            beside_others=_furthest(_rows(model, layers, alike, batches), alone),
            with_padding=_furthest(_rows(model, layers, [windows], batches), alone),
            in_a_pack=_furthest(_rows(model, layers, [windows], packs), alone) if packed else None,
        )
    except ModelError:
        raise  # a layer that takes no part: the same for every kernel
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        return Kernel(name=name, in_use=in_use, packed=False, failure=_first_sentence(error))


def _lengths(windows: Sequence[Window]) -> list[int]:
    return sorted({len(window.input_ids) for window in windows}, reverse=True)


def _rows(
    model: PreTrainedModel,
    layers: Sequence[Layer],
    groups: Sequence[Sequence[Window]],
    cut: Callable[[Sequence[Window], int], Iterator[Batch]],
) -> Float[Tensor, "windows width"]:
    """Rows of the windows, each group in one batch; the groups together are in the windows' order."""
    projections = make_projections("random", layers, rank=RANK, seed=0)
    parts = []
    with capturing(model, layers, projections, batch_tokens=sum(LENGTHS)) as capture:
        for group in groups:
            rows = torch.empty(len(group), projections.layout.width)
            for batch in cut(group, len(group) * max(LENGTHS)):
                rows[batch.order] = capture.run(batch)
            parts.append(rows)
    return torch.cat(parts)


def _furthest(rows: Float[Tensor, "windows width"], alone: Float[Tensor, "windows width"]) -> float:
    return float(((rows - alone).norm(dim=1) / alone.norm(dim=1)).max())


def _kind(model: PreTrainedModel, keyword: str) -> Kind:
    try:
        layers = select_layers(model, keyword)
    except ModelError as error:
        return Kind(keyword=keyword, shapes=(), moments_bytes=0, refused=str(error))
    return Kind(keyword=keyword, shapes=_shapes(layers), moments_bytes=moments_bytes(layers), refused=None)


def _shapes(layers: Sequence[Layer]) -> tuple[Shape, ...]:
    counts: dict[tuple[str, int, int], int] = {}
    for layer in layers:
        key = (re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", layer.name), layer.in_dim, layer.out_dim)
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        Shape(path=path, count=count, in_dim=in_dim, out_dim=out_dim)
        for (path, in_dim, out_dim), count in counts.items()
    )


def _first_sentence(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.split(r"(?<=[a-z])\. ", line, maxsplit=1)[0].rstrip(".")
