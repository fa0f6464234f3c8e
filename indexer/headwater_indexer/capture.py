"""Rows: the projected gradient of each sequence's loss, by hooks, without ever forming a gradient of a weight.

For a linear layer with inputs x_t and loss derivatives d_t at its outputs the gradient is sum_t d_t x_t^T; seen
through the projections it is sum_t (P_out d_t)(P_in x_t)^T, [rank_out, rank_in] (arXiv 2405.13954, eq. 6).
"""

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
from headwater_indexer.projection import Projections
from headwater_indexer.watch import Routed, watching_routed
from headwater_indexer.windows import Window


class Capture:
    """Gives the rows of windows: all in their order, or batch by batch as they come."""

    def __init__(
        self,
        run: Callable[[Batch], Float[Tensor, "windows width"]],
        width: int,
        cut: Callable[[Sequence[Window]], Iterator[Batch]],
    ) -> None:
        self.run = run
        self._width = width
        self._cut = cut

    def batches(self, windows: Sequence[Window]) -> Iterator[tuple[list[int], Float[Tensor, "rows width"]]]:
        """Each batch's rows with their places in `windows`."""
        for batch in self._cut(windows):
            yield batch.order, self.run(batch)

    def __call__(self, windows: Sequence[Window]) -> Float[Tensor, "windows width"]:
        rows = torch.empty(len(windows), self._width)
        for order, batch_rows in self.batches(windows):
            rows[order] = batch_rows
        return rows


def cutting(model: PreTrainedModel) -> Callable[[Sequence[Window], int], Iterator[Batch]]:
    """How this model's windows become batches of so many tokens: packed, where that changes nothing but the time."""
    return packs if can_pack(model) else batches


@contextmanager
def capturing(
    model: PreTrainedModel, layers: Sequence[Layer], projections: Projections, *, batch_tokens: int
) -> Iterator[Capture]:
    """Gives a function from windows to their rows in float32 on the CPU; the hooks live as long as the `with`.

    `batch_tokens` is the budget of one batch, padding included where the model cannot do without. A row does not depend
    on its batch beyond rounding.
    Raises NonFiniteGradient with the position of the window in its message and as `position`.
    """
    device = model.device
    cut = cutting(model)
    matrices = projections.to(device)
    layout = projections.layout
    rows: Tensor
    batch: Batch

    def on_input(name: str, activation: Tensor, _: Routed | None) -> Tensor:
        return activation.float() @ matrices[name].input.T

    def on_output_grad(name: str, seen_input: Tensor, grad: Tensor, routed: Routed | None) -> None:
        seen_output = grad.float() @ matrices[name].output.T
        if routed is not None:  # spread out when they are narrow
            seen_output, seen_input = routed.among_all(seen_output), routed.among_all(seen_input)
        # Added, not assigned: a layer may be used twice in one pass.
        for windows, (outputs, inputs) in batch.blocks(seen_output, seen_input):
            rows[windows, layout.columns[name]] += torch.bmm(outputs.mT, inputs).flatten(1)

    with watching_routed(model, layers, on_input, on_output_grad) as run:

        def run_batch(next_batch: Batch) -> Float[Tensor, "windows width"]:
            nonlocal rows, batch
            batch = next_batch.to(device)
            rows = torch.zeros(len(batch.order), layout.width, device=device)
            losses = run(batch)
            _check_finite(rows, losses, batch.order)
            return rows.cpu()

        yield Capture(run_batch, layout.width, lambda windows: cut(windows, batch_tokens))


def _check_finite(rows: Tensor, losses: Tensor, order: list[int]) -> None:
    finite = losses.isfinite() & rows.isfinite().all(dim=1)
    if not bool(finite.all()):
        position = order[int((~finite).nonzero()[0])]
        raise NonFiniteGradient(
            f"the loss or gradient of sequence {position} is not finite: the model overflows on it, or its weights are "
            "damaged",
            position=position,
        )
