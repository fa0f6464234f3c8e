"""The influence of windows on queries: sum over layers and tokens of d_t^T M_q x_t, M_q [out_dim, in_dim] being a
query's preconditioned gradient.

One pass forward and backward over the windows serves all queries. For one query the tokens are contracted with M_q
and no gradient is formed. For several, a window's gradient is formed in its layer's turn, multiplied with all M_q, and
gone: that is (time + queries) in place of time x queries multiplications for each weight.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from transformers import PreTrainedModel

from headwater_indexer.ekfac.factors import Gradients, empty
from headwater_indexer.ekfac.fitting import blocks
from headwater_indexer.ekfac.seeing import Derivatives, Inputs, seeing
from headwater_indexer.layers import Layer
from headwater_indexer.windows import Window


def summed_gradients(
    model: PreTrainedModel,
    layers: Sequence[Layer],
    windows: Sequence[Window],
    owners: Sequence[int],
    *,
    batch_tokens: int,
) -> Gradients:
    """The gradient of each owner's loss, the sum of its windows': [owners, out_dim, in_dim] for each layer."""
    gradients = empty(layers, max(owners) + 1, model.device)
    owner_of = torch.tensor(owners, device=model.device)

    def see(name: str, places: list[int], x: Inputs, d: Derivatives) -> None:
        for part in blocks(len(x), gradients[name][0].numel()):
            gradients[name].index_add_(0, owner_of[places[part]], torch.bmm(d[part].mT, x[part]))

    with seeing(model, layers, see, batch_tokens=batch_tokens) as run:
        run(windows)
    return gradients


def window_influences(
    model: PreTrainedModel,
    layers: Sequence[Layer],
    directions: Mapping[str, Tensor],
    windows: Sequence[Window],
    *,
    batch_tokens: int,
) -> Float[Tensor, "queries windows"]:
    """Of each window on each query; `directions` are the queries' preconditioned gradients."""
    queries = len(next(iter(directions.values())))
    found = torch.zeros(queries, len(windows), device=model.device)

    def see(name: str, places: list[int], x: Inputs, d: Derivatives) -> None:
        found[:, places] += _contract(directions[name], x, d)

    with seeing(model, layers, see, batch_tokens=batch_tokens) as run:
        run(windows)
    return found.cpu()


def token_influences(
    model: PreTrainedModel,
    layers: Sequence[Layer],
    direction: Mapping[str, Float[Tensor, "1 out_dim in_dim"]],
    windows: Sequence[Window],
    *,
    batch_tokens: int,
) -> list[Float32[np.ndarray, " time"]]:
    """d_t^T M x_t of each position of each window, summed over layers; a window's sum is its influence."""
    found = [torch.zeros(len(window.input_ids)) for window in windows]

    def see(name: str, places: list[int], x: Inputs, d: Derivatives) -> None:
        for place, values in zip(places, _by_token(direction[name][0], x, d).cpu(), strict=True):
            found[place] += values[: len(found[place])]

    with seeing(model, layers, see, batch_tokens=batch_tokens) as run:
        run(windows)
    return [values.numpy() for values in found]


def _contract(
    directions: Float[Tensor, "queries out_dim in_dim"], x: Inputs, d: Derivatives
) -> Float[Tensor, "queries windows"]:
    if len(directions) == 1:
        return _by_token(directions[0], x, d).sum(1)[None]
    flat = directions.flatten(1)
    parts = [flat @ torch.bmm(d[part].mT, x[part]).flatten(1).T for part in blocks(len(x), flat.shape[1])]
    return torch.cat(parts, dim=1)


def _by_token(direction: Float[Tensor, "out_dim in_dim"], x: Inputs, d: Derivatives) -> Float[Tensor, "windows time"]:
    """d_t^T M x_t, through the narrower of the two sides."""
    out_dim, in_dim = direction.shape
    if in_dim <= out_dim:
        return ((d @ direction) * x).sum(-1)
    return ((x @ direction.T) * d).sum(-1)
