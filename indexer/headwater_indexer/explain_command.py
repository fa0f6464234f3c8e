"""The command that tells which tokens an influence is made of: explain."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater_indexer.command_options import Device
from headwater_indexer.errors import PairError, UsageError
from headwater_indexer.progress import TerminalProgress

if TYPE_CHECKING:
    from headwater_indexer.index import Index, Pair


def explain(
    index: Annotated[Path, typer.Argument(help="Folder of an index that was built with --factors.")],
    response: Annotated[str, typer.Option(help="What the model said.")],
    prompt: Annotated[str, typer.Option(help="What it was asked.")] = "",
    document: Annotated[
        list[str] | None, typer.Option(help="Id of a document; may be given again. (default: the best --top-k)")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Documents that are explained where none is named.")] = 3,
    refine: Annotated[int, typer.Option(min=0, help="Steps past EK-FAC.")] = 0,
    model: Annotated[str | None, typer.Option(help="The model, where it has moved since the build.")] = None,
    device: Device = "auto",
) -> None:
    """Print the tokens that the influence of documents on a response is made of, as JSON.

    Scores are those of unprojected gradients and EK-FAC. The tokens' parts sum to the score on the document's side and
    on the response's.
    """
    from headwater_indexer.index import Index

    opened = Index.open(index, device=device, model=model, progress=TerminalProgress())
    try:
        pair = _encoded(opened, prompt, response)
        ordinals = _named(opened, document) if document else _best(opened, pair, top_k)
        explanations = opened.explain(pair, ordinals, refine=refine)
        found = opened.documents.by_ordinal(ordinals)
    finally:
        opened.close()
    shown = [
        {"document_id": document.id, "source": document.source} | asdict(explanation)
        for document, explanation in zip(found, explanations, strict=True)
    ]
    typer.echo(json.dumps(shown, indent=1, ensure_ascii=False))


def _encoded(index: "Index", prompt: str, response: str) -> "Pair":
    try:
        return index.encode(prompt, response)
    except PairError as error:
        raise UsageError(f"--{error.param}: {error}") from error


def _named(index: "Index", document_ids: Sequence[str]) -> list[int]:
    found = dict(zip(document_ids, index.documents.ordinals(document_ids), strict=True))
    if unknown := [name for name, ordinal in found.items() if ordinal is None]:
        raise UsageError(f"--document {unknown[0]}: {index.folder} has no document of this id")
    return [ordinal for ordinal in found.values() if ordinal is not None]


def _best(index: "Index", pair: "Pair", top_k: int) -> list[int]:
    (hits,) = index.search(index.rows([pair]), top_k=top_k, score="influence")
    return [hit.ordinal for hit in hits]
