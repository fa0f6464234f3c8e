"""The passes that are compared: what anyone would write in a dozen lines, and our capture."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from workloads import windows_of

from headwater_indexer.batches import Batch
from headwater_indexer.capture import capturing
from headwater_indexer.layers import select_layers
from headwater_indexer.losses import losses_backward
from headwater_indexer.projection import make_projections
from headwater_indexer.windows import Window

Pass = Callable[[], None]  # once over all windows
IGNORED = -100  # cross_entropy's label of a token that does not count


def prepare(variant: str, model: PreTrainedModel, windows: Sequence[Window], rows: int) -> Pass:
    """One pass over the windows.

    forward        in padded batches of `rows`, in the windows' order
    limit          forward and backward of activations alone, no gradient of a weight: the eager limit of any capture
    limit, sorted  the same, the windows sorted by length first, so that hardly anything is padded
    limit, lean    the same with our loss, which never holds all logits: what is left to hooks and projections
    training       forward and backward with all weights' gradients
    capture K      ours at rank K over all linear layers but the head, with as many tokens in a batch; its hooks are set
                   in the pass
    """
    if variant.startswith("capture"):
        return _prepare_capture(int(variant.split()[1]), model, windows, rows)
    order = sorted(windows, key=lambda window: -len(window.input_ids)) if variant.endswith("sorted") else windows
    batches = [_padded(order[start : start + rows]) for start in range(0, len(order), rows)]

    def plain() -> None:
        model.requires_grad_(variant == "training")
        for ids, mask, labels in batches:
            _plain_pass(model, variant, ids.to(model.device), mask.to(model.device), labels.to(model.device))

    return plain


def _prepare_capture(rank: int, model: PreTrainedModel, windows: Sequence[Window], rows: int) -> Pass:
    longest = max(len(window.input_ids) for window in windows)
    layers = select_layers(model, "all")
    projections = make_projections("random", layers, rank=rank, seed=0).to(model.device)

    def ours() -> None:
        model.requires_grad_(False)
        with capturing(model, layers, projections, batch_tokens=rows * longest) as capture:
            for _ in capture.batches(windows):
                pass

    return ours


def _padded(windows: Sequence[Window]) -> tuple[Tensor, Tensor, Tensor]:
    ids = nn.utils.rnn.pad_sequence([torch.from_numpy(window.input_ids).long() for window in windows], True)
    lengths = torch.tensor([len(window.input_ids) for window in windows])
    mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
    counted = nn.utils.rnn.pad_sequence([torch.from_numpy(window.is_target) for window in windows], True)
    return ids, mask.long(), ids.masked_fill(~counted, IGNORED)


def _plain_pass(model: PreTrainedModel, variant: str, ids: Tensor, mask: Tensor, labels: Tensor) -> None:
    backward = variant != "forward"
    embeddings = model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda _, __, output: output.requires_grad_(backward))
    try:
        if variant == "limit, lean":
            order = list(range(len(ids)))
            batch = Batch(input_ids=ids, attention_mask=mask, targets=labels != IGNORED, order=order)
            losses_backward(model, batch)
            return
        with torch.set_grad_enabled(backward):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum")
        if backward:
            loss.backward()
            model.zero_grad()
    finally:
        hook.remove()


def largest_batch(model: PreTrainedModel, tokens: int) -> int:
    """The most windows of `tokens` tokens, a power of two or one and a half times that, with which every pass fits the
    GPU's memory in one batch."""
    fitting = 1
    for rows in (number for power in range(12) for number in (2 * 2**power, 3 * 2**power)):
        windows = windows_of([tokens] * rows, model.config.vocab_size)
        try:
            for variant in ("training", "limit", "capture 64"):
                prepare(variant, model, windows, rows)()
        except torch.cuda.OutOfMemoryError:
            break
        finally:
            torch.cuda.empty_cache()
        fitting = rows
    return fitting
