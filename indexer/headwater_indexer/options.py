"""What a build can be told: a handful of fields, parsed once at the edge."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.codes.budget import RowPlan, plan_rows
from headwater_indexer.corpus import Fields
from headwater_indexer.errors import UsageError
from headwater_indexer.hessian import HessianKind
from headwater_indexer.layers import Layer
from headwater_indexer.plan import AskedPlan
from headwater_indexer.projection import ProjectionKind
from headwater_indexer.storage.corpora import stamp_of
from headwater_indexer.storage.remote import is_url
from headwater_indexer.windows import LongDocuments

ScoreMethod = Literal["influence", "hybrid", "bm25", "hidden-states"]
Bits = Literal[32, 16, 8, 4, 2, 1]
DEFAULT_BYTES = 2048
LONGEST_WINDOW = 1024  # tokens, unless the model has fewer positions or --max-length says otherwise


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How documents become rows. Everything here, with the model and the corpus, decides the index bit for bit.

    The commands take their options, defaults and help from these fields.
    """

    layers: str = _option("mlp", "Layers to watch: mlp, attention, all, or patterns over their names; ! leaves out.")
    bytes: int | None = _option(
        None,
        "Bytes of a document's row: the ranks, columns and bits that tell most in as many are chosen. (default: "
        f"{DEFAULT_BYTES}, unless --bits or --rank is given)",
    )
    bits: Bits | None = _option(
        None, "Bits of each column instead: 32, 16, 8, 4, 2 or 1. (default: 32, with --rank alone)"
    )
    rank: int | None = _option(
        None, "Rank of both projections of each layer, at most the layer's width. (default: as --bytes asks, else 32)"
    )
    projection: ProjectionKind = _option("whitened", "How gradients are projected before the Hessian.")
    hessian: HessianKind = _option("ekfac", "The curvature that projected gradients are preconditioned by.")
    damping: float = _option(0.1, "Added to the Hessian, over the mean eigenvalue of each layer.")
    seed: int = _option(0, "Of the random projections.")
    max_length: int | None = _option(
        None, f"Tokens in a window. (default: as many as the model has positions, at most {LONGEST_WINDOW})"
    )
    long_documents: LongDocuments = _option(
        "windows", "Documents longer than a window: several windows, or the first alone, as many trainers do."
    )
    batch_tokens: int = _option(4096, "Tokens in a batch, padding included.")
    moment_tokens: int = _option(262_144, "Tokens at most that projections are fitted on.")
    factors: bool = _option(
        False, "Keep the EK-FAC factors of unprojected gradients as well, so that candidates can be scored again."
    )
    factor_tokens: int = _option(524_288, "Tokens of the sample that these factors are fitted on.")
    plan: AskedPlan = _option(
        "auto",
        "How the index is searched: exact, or two-stage for many documents, which keeps their signs in memory. auto "
        "takes the quicker one that fits --memory.",
    )
    embeddings: bool = _option(False, "Keep the documents' mean hidden states as well, to compare with.")
    dtype: str = _option(
        "auto", "Of the weights: auto, float32, bfloat16, float16, int8, nf4. auto is float32 on the CPU."
    )
    gradient_checkpointing: bool = _option(
        False, "Compute activations again in the backward pass: less memory for long windows, more time."
    )
    split: str = _option("train", "Split of a Hugging Face dataset.")
    fields: Fields = field(default_factory=Fields)

    def __post_init__(self) -> None:
        """Raises UsageError for numbers that no build can use."""
        for name in ("rank", "batch_tokens", "moment_tokens", "factor_tokens"):
            if (given := getattr(self, name)) is not None and given < 1:
                raise UsageError(f"--{name.replace('_', '-')} {given}: it must be at least 1")
        if self.bytes is not None and self.bits is not None:
            raise UsageError("--bytes and --bits: give one of them; a budget of bytes chooses the bits")
        if self.bits not in (None, *get_args(Bits)):
            raise UsageError(f"--bits {self.bits}: choose 32, 16, 8, 4, 2 or 1")
        if not 0 < self.damping < float("inf"):
            raise UsageError(f"--damping {self.damping}: it must be above 0")

    def rows(self, layers: Sequence[Layer]) -> RowPlan:
        """What a document's row is, of these layers. Raises UsageError for a budget that is too small."""
        unsaid = self.bits is None and self.rank is None
        budget = DEFAULT_BYTES if self.bytes is None and unsaid else self.bytes
        return plan_rows(layers, rank=self.rank, bits=self.bits, budget=budget)

    def window_length(self, checkpoint: Checkpoint) -> int:
        """The longest window in tokens. Raises UsageError when the model has fewer positions than asked for."""
        positions = checkpoint.max_length
        if self.max_length is not None and positions is not None and self.max_length > positions:
            raise UsageError(f"--max-length {self.max_length}: {checkpoint.id} has {positions} positions")
        return self.max_length or min(LONGEST_WINDOW, positions or LONGEST_WINDOW)


def fingerprint(options: BuildOptions, checkpoint: Checkpoint, documents: str) -> str:
    """SHA-256 of all that goes into a build; the files of the corpus by name, size and time of change."""
    described = {
        "options": asdict(options),
        "weights": checkpoint.weights_sha256,
        "dtype": checkpoint.dtype,
        "tokenizer": checkpoint.tokenizer_sha256,
        "documents": stamp(documents),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def stamp(documents: str) -> list[tuple[str, int, int]] | list[tuple[str, int, str]] | str:
    """What tells whether a corpus has changed: the name, size and time of change of each of its files."""
    if is_url(documents):
        return stamp_of(documents)
    path = Path(documents)
    if not path.exists():
        return documents  # a name on the hub
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
