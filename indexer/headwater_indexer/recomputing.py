"""Blocks whose activations are not kept for the backward pass but computed again in it (gradient checkpointing).

The memory of long windows for one more forward pass: only each block's input is kept.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from headwater_indexer.errors import ModelError

_again: ContextVar[bool] = ContextVar("again", default=False)


def is_recomputing() -> bool:
    """Whether the forward pass that runs is the second, within the backward pass."""
    return _again.get()


def recompute_blocks(model: PreTrainedModel) -> None:
    """From here on the model's blocks are computed again in each backward pass. Raises ModelError where it has none."""
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise ModelError(
            f"{type(model).__name__} has no blocks that can be computed again: drop --gradient-checkpointing"
        )
    for block in blocks:
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False, context_fn=_contexts
        )


@contextmanager
def keeping_activations(model: PreTrainedModel) -> Iterator[None]:
    """Within it no block is computed again: for a graph that is gone through many times."""
    recomputed = [
        (module, module.forward)
        for module in model.modules()
        if isinstance(module.forward, partial) and module.forward.func is checkpoint
    ]
    for block, forward in recomputed:
        block.forward = forward.args[0]
    try:
        yield
    finally:
        for block, forward in recomputed:
            block.forward = forward


class _Recomputing:
    """A context that can be entered for each of several backward passes."""

    def __enter__(self) -> None:
        self._token = _again.set(True)

    def __exit__(self, *_: object) -> None:
        _again.reset(self._token)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _Recomputing()
