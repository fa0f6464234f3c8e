"""groundtruth.json: how a ground truth is made, written before the work and marked when it is done."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.corpus import Document
from headwater_indexer.durable import PARTIAL, replacing, sha256_of
from headwater_indexer.errors import ConfigurationError, DataError, UsageError
from headwater_indexer.evaluation.query_set import QuerySet
from headwater_indexer.evaluation.training import TrainingOptions
from headwater_indexer.scores import Query

JOURNAL = "groundtruth.json"


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class TruthOptions:
    """What a ground truth is made of. The command takes its options, defaults and help from these fields."""

    subsets: int = _option(64, "Random halves of the documents that a model is retrained on.")
    seeds: int = _option(2, "Trainings on each half; their agreement says how far an LDS can go.")
    held_out: int = _option(32, "Queries made of documents that are not trained on, where --queries gives none.")
    quotes: int = _option(32, "Queries made of documents that are trained on, where --queries gives none.")
    max_length: int | None = _option(None, "Tokens of a document. (default: the model's, at most 1024)")
    seed: int = _option(0, "Of the halves, of the made queries and of the trainings.")

    def __post_init__(self) -> None:
        """Raises UsageError for numbers that make no truth."""
        for name, least in (("subsets", 2), ("seeds", 1), ("held_out", 0), ("quotes", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: it must be at least {least}")


def recorded(folder: Path) -> tuple[TrainingOptions, TruthOptions, str | None] | None:
    """How a ground truth was trained; None where the folder does not say, as when another program made it."""
    try:
        journal = json.loads((folder / JOURNAL).read_text())
        return TrainingOptions(**journal["training"]), TruthOptions(**journal["options"]), journal["train_script"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / JOURNAL} cannot be read ({error})") from error


def describe(
    base: Checkpoint, made: QuerySet, options: TruthOptions, training: TrainingOptions, script: str | None
) -> dict[str, Any]:
    """All that decides the result, and its SHA-256."""
    described = {
        "headwater_version": version("headwater"),
        "options": asdict(options),
        "training": asdict(training),
        "train_script": script,
        "model": {"id": base.id, "weights_sha256": base.weights_sha256, "tokenizer_sha256": base.tokenizer_sha256},
        "documents": {"count": len(made.documents), "sha256": _sha256(made.documents)},
        "queries": {"count": len(made.queries), "sha256": _sha256(made.queries)},
        "script_files": _files_of(script),
    }
    return described | {"inputs_sha256": hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()}


def begin(out: Path, journal: dict[str, Any]) -> bool:
    """Whether this truth is made already; else readies the folder. Raises ConfigurationError when it holds another."""
    try:
        there = json.loads((out / JOURNAL).read_text())
    except FileNotFoundError:
        if any(not file.name.endswith(PARTIAL) for file in out.iterdir()):
            raise ConfigurationError(f"{out} holds other files: choose a new or empty folder for --out") from None
        write_json(out / JOURNAL, journal | {"finished": False})
        return False
    except ValueError as error:
        raise DataError(f"{out / JOURNAL} cannot be read ({error}): choose another --out") from error
    if there.get("inputs_sha256") != journal["inputs_sha256"]:
        raise ConfigurationError(
            f"{out} holds a ground truth of other options, another model or other documents, finished or not: run it "
            "with the former ones to resume it, or choose another --out"
        )
    return bool(there["finished"])


def _sha256(items: Sequence[Document] | Sequence[Query]) -> str:
    return hashlib.sha256(json.dumps([asdict(item) for item in items], sort_keys=True).encode()).hexdigest()


def _files_of(script: str | None) -> dict[str, str]:
    """The SHA-256 of each word of the command that is a file: an edited script does not go on with the old results."""
    words = shlex.split(script) if script else []
    return {word: sha256_of(Path(word)) for word in words if Path(word).is_file()}


def write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n")
