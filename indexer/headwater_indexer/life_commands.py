"""The commands that change an index: append, remove, compact, rollback; and versions, which lists what they made."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater_indexer.command_options import Device, taking_fields
from headwater_indexer.corpus import Fields
from headwater_indexer.errors import UsageError
from headwater_indexer.options import BuildOptions
from headwater_indexer.progress import TerminalProgress

if TYPE_CHECKING:
    from headwater_indexer.manifest import Manifest

Folder = Annotated[Path, typer.Argument(help="Folder of an index.")]
Keep = Annotated[int, typer.Option(min=0, help="Older versions that are kept, to go back to.")]
KEPT = 3


def _tell(index: Path, manifest: "Manifest") -> None:
    typer.echo(
        f"{index} is at version {manifest.number}: {manifest.documents:,} documents\n{manifest.version}", err=True
    )


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
    _tell(index, manifest)


def remove(
    index: Folder,
    document_id: Annotated[list[str] | None, typer.Option("--id", help="Id of a document; may be given again.")] = None,
    ids: Annotated[Path | None, typer.Option(help="File of ids, one a line; - for the standard input.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="All documents of a source; may be given again.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="All documents that a condition holds for, as metadata.licence=none; of several, where all hold."
        ),
    ] = None,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", help="Pass over ids and sources that the index does not have.")
    ] = False,
    keep: Keep = KEPT,
) -> None:
    """Remove documents from an index, as a new version: none of them is found, counted or shown any more.

    They stay on the disk until `compact`, and in versions that are kept; a server sees it when it reloads.
    """
    from headwater_indexer.conditions import parse_conditions
    from headwater_indexer.manifest import Manifest
    from headwater_indexer.remove import Unwanted, remove_documents

    named = [*(document_id or []), *(_lines(ids) if ids else [])]
    unwanted = Unwanted(ids=named, sources=source or [], where=parse_conditions(where or []), may_be_missing=missing_ok)
    if not (named or source or where or ids):
        raise UsageError("say what to remove: --id, --ids, --source or --where")
    before = Manifest.read(index).documents
    manifest = remove_documents(index, unwanted, keep=keep)
    typer.echo(f"{before - manifest.documents:,} documents removed", err=True)
    _tell(index, manifest)


def _lines(path: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--ids {path} cannot be read: {error}") from error
    return [line for line in text.splitlines() if line.strip()]


def compact(index: Folder) -> None:
    """Write an index anew in one segment, and erase removed documents and older versions from the disk.

    What is found stays the same, bit for bit. Needs as much room on the disk as the index takes.
    """
    from headwater_indexer.compact import compact as compacted

    _tell(index, compacted(index, progress=TerminalProgress()))


def versions(index: Folder) -> None:
    """List the versions of an index that are kept, the current one last: number, date, change, documents, digest."""
    from headwater_indexer.versions import history

    for manifest in history(index):
        when = datetime.fromtimestamp(manifest.created, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        typer.echo(f"{manifest.number}\t{when}\t{manifest.change}\t{manifest.documents}\t{manifest.version}")


def rollback(
    index: Folder,
    to: Annotated[int | None, typer.Option(help="Number of a kept version. (default: the one before)")] = None,
    restore_removed: Annotated[
        bool, typer.Option("--restore-removed", help="Also where documents that were removed since come back.")
    ] = False,
    keep: Keep = KEPT,
) -> None:
    """Make an older version of an index the current one again, under a new number."""
    from headwater_indexer.versions import roll_back

    _tell(index, roll_back(index, to, restore_removed=restore_removed, keep=keep))
