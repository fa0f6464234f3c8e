"""The lengths of a segment's rows as they are stored, without opening its search."""

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file

from headwater_indexer.codes.coder import headers
from headwater_indexer.errors import IndexDamaged
from headwater_indexer.manifest import RowsPart
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace


def stored_lengths(part: Workspace, rows: RowsPart) -> Float[np.ndarray, " rows"]:
    """0 for a document without gradient. Raises IndexDamaged."""
    if rows.bits == 32:
        try:
            return np.asarray(load_file(part.norms)["norms"])
        except (OSError, SafetensorError, KeyError) as error:
            raise IndexDamaged(f"{part.norms} cannot be read ({error}): copy the index again") from error
    store = ShardStore.open(part.rows)
    each = [headers(store.mapped(shard))["norm"] for shard in store.manifest.shards]
    return np.concatenate(each) if each else np.zeros(0, np.float32)
