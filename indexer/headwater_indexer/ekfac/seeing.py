"""Both factors of each watched layer's gradient, window by window: a gradient is sum_t d_t x_t^T."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from headwater_indexer.batches import Batch, batches, packs
from headwater_indexer.errors import NonFiniteGradient
from headwater_indexer.layers import Layer
from headwater_indexer.packed_attention import can_pack
from headwater_indexer.pausing import pause
from headwater_indexer.watch import watching
from headwater_indexer.windows import Window

Inputs = Float[Tensor, "windows time in_dim"]
Derivatives = Float[Tensor, "windows time out_dim"]
# Called for each layer with its name, the windows' places in the input, x_t and d_t in float32; zeros for padding.
See = Callable[[str, list[int], Inputs, Derivatives], None]


@contextmanager
def seeing(
    model: PreTrainedModel, layers: Sequence[Layer], see: See, *, batch_tokens: int
) -> Iterator[Callable[[Sequence[Window]], Float[Tensor, " windows"]]]:
    """Gives a function that runs windows forward and backward, shows their factors, and returns their losses.

    The hooks are there for a batch at a time, and between two of them it pauses (pausing.py).
    A layer that is used twice is shown twice, and its gradient is the sum. Nothing is kept past a batch. Raises
    NonFiniteGradient with the place of the first window whose loss is not a number.
    """
    cut = packs if can_pack(model) else batches
    batch: Batch

    def on_input(_: str, inputs: Tensor) -> Tensor:
        return inputs

    def on_output_grad(name: str, inputs: Tensor, derivatives: Tensor) -> None:
        for windows, (x, d) in batch.blocks(inputs, derivatives):
            see(name, batch.order[windows], x.float(), d.float())

    def run_all(windows: Sequence[Window]) -> Float[Tensor, " windows"]:
        nonlocal batch
        losses = torch.zeros(len(windows))
        for cut_batch in cut(windows, batch_tokens):
            pause()
            batch = cut_batch.to(model.device)
            with watching(model, layers, on_input, on_output_grad) as run:
                losses[batch.order] = run(batch).float().cpu()
        if not bool(losses.isfinite().all()):
            position = int((~losses.isfinite()).nonzero()[0])
            raise NonFiniteGradient(
                f"the loss of sequence {position} is not finite: the model overflows on it, or its weights are damaged",
                position=position,
            )
        return losses

    yield run_all
