"""The lengths of a segment's rows as they are stored, without opening its search."""

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

from headwater_indexer.coded_search import record_lengths
from headwater_indexer.manifest import RowsPart
from headwater_indexer.store.reader import RowReader
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.tensors import reading_tensors
from headwater_indexer.workspace import Workspace


def stored_lengths(part: Workspace, rows: RowsPart) -> Float[np.ndarray, " rows"]:
    """0 for a document without gradient. Raises IndexDamaged."""
    if rows.bits == 32:
        with reading_tensors(part.norms):
            return np.asarray(load_file(part.norms)["norms"])
    return record_lengths(RowReader.open(ShardStore.open(part.rows)))
