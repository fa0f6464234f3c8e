"""The commands that change an index: append."""

from pathlib import Path
from typing import Annotated

import typer

from headwater_indexer.command_options import Device, taking_fields
from headwater_indexer.corpus import Fields
from headwater_indexer.options import BuildOptions
from headwater_indexer.progress import TerminalProgress

Folder = Annotated[Path, typer.Argument(help="Folder of an index.")]
Keep = Annotated[int, typer.Option(min=0, help="Older versions that are kept, to go back to.")]
KEPT = 3


@taking_fields
def append(
    names: Fields,
    index: Folder,
    documents: Annotated[list[str], typer.Argument(help="Corpora, as build takes them.")],
    split: Annotated[str, typer.Option(help="Split of a Hugging Face dataset.")] = "train",
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens in a batch, padding included.")] = (
        BuildOptions().batch_tokens
    ),
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="As in build: less memory for long windows.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Drop what an append of other documents left unfinished.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="The model, where it has moved since the build.")] = None,
    device: Device = "auto",
    keep: Keep = KEPT,
) -> None:
    """Add documents to an index, as a new version. The same command resumes an append that was interrupted.

    Their rows are seen through the projections and the Hessian of the build, which are not fitted anew.
    """
    from headwater_indexer.append import AppendOptions, append_documents

    options = AppendOptions(
        batch_tokens=batch_tokens, gradient_checkpointing=gradient_checkpointing, split=split, fields=names
    )
    manifest = append_documents(
        index,
        documents,
        options,
        model=model,
        device=device,
        overwrite=overwrite,
        keep=keep,
        progress=TerminalProgress(),
    )
    typer.echo(
        f"{index} is at version {manifest.number}: {manifest.documents:,} documents\n{manifest.version}", err=True
    )
