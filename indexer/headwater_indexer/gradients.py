"""A corpus into rows: one row a document, the sum of its windows' projected gradients, shard by shard."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32

from headwater_indexer.capture import Capture
from headwater_indexer.corpus import Document
from headwater_indexer.documents import Documents
from headwater_indexer.errors import NonFiniteGradient
from headwater_indexer.options import BuildOptions
from headwater_indexer.progress import Step
from headwater_indexer.windows import Encoder, LongDocuments, Window

SHARD_BYTES = 128 << 20  # of a shard's rows
HESSIAN_DOCUMENTS = 4096  # at least: each eigenvalue of EK-FAC is then known to 3 or 4 per cent
SHARD_DOCUMENTS = (16, 1024)  # the fewest and the most documents in a shard


def shard_size(width: int) -> int:
    """Documents in a shard: what a killed build captures again at most."""
    fewest, most = SHARD_DOCUMENTS
    return min(most, max(fewest, SHARD_BYTES // (4 * width)))


def shard_ranges(documents: int, width: int) -> list[range]:
    """The documents' ordinals in each shard; the cut depends on the width alone, so a resumed build cuts the same."""
    size = shard_size(width)
    return [range(start, min(documents, start + size)) for start in range(0, documents, size)]


def hessian_shards(options: BuildOptions, documents: int, width: int, *, everything: bool) -> list[int]:
    """The numbers of the shards that the Hessian is fitted on: evenly spread over the corpus; all of them where it is
    small, for the raw Hessian, which has far more numbers to learn than EK-FAC, and where `everything` asks for it."""
    shards = len(shard_ranges(documents, width))
    wanted = -(-HESSIAN_DOCUMENTS // shard_size(width))
    if everything or options.hessian == "raw" or shards <= wanted:
        return list(range(shards))
    return [number * shards // wanted for number in range(wanted)]


def documents_for_hessian(options: BuildOptions, documents: int, width: int, *, everything: bool) -> int:
    """How many documents' gradients are on the disk at once."""
    ranges = shard_ranges(documents, width)
    return sum(len(ranges[number]) for number in hessian_shards(options, documents, width, everything=everything))


def document_rows(
    capture: Capture,
    encoder: Encoder,
    documents: Sequence[Document],
    width: int,
    *,
    long: LongDocuments,
    step: Step,
) -> Float32[np.ndarray, "documents width"]:
    """The rows of the documents of one shard, not yet preconditioned. Influence is linear in the gradient, so the sum
    of its windows' rows scores a document as the sum of its windows' scores does.

    Raises NonFiniteGradient with the document's id.
    """
    windows: list[Window] = []
    owners: list[int] = []
    for place, document in enumerate(documents):
        own = encoder.document(document, long=long)
        windows += own
        owners += [place] * len(own)
    rows = torch.zeros(len(documents), width)
    owner_of = torch.tensor(owners, dtype=torch.int64)
    try:
        for order, batch_rows in capture.batches(windows):
            rows.index_add_(0, owner_of[order], batch_rows)
            step.advance(sum(len(windows[place].input_ids) for place in order))
    except NonFiniteGradient as error:
        culprit = documents[owners[error.position or 0]]
        raise NonFiniteGradient(f"document {culprit.id!r}: {error}") from error
    return rows.numpy()


def sample_windows(encoder: Encoder, documents: Documents, *, tokens: int, long: LongDocuments) -> list[Window]:
    """Windows of documents spread evenly over the corpus, of about `tokens` tokens in all."""
    windows: list[Window] = []
    taken = 0
    for ordinals in _spread(len(documents)):
        for document in documents.by_ordinal(ordinals):
            for window in encoder.document(document, long=long):
                if taken >= tokens:
                    return windows
                windows.append(window)
                taken += len(window.input_ids)
    return windows


def _spread(count: int, block: int = 256) -> Iterator[list[int]]:
    """All ordinals, block by block, so that every beginning of the sequence covers the corpus evenly."""
    stride = max(1, -(-count // block))
    for start in _bit_reversed(stride):
        yield list(range(start, count, stride))


def _bit_reversed(count: int) -> Iterator[int]:
    bits = max(1, (count - 1).bit_length())
    for number in range(1 << bits):
        reversed_number = int(format(number, f"0{bits}b")[::-1], 2)
        if reversed_number < count:
            yield reversed_number
