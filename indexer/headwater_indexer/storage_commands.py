"""The commands that exchange an index with shared storage: push, pull."""

from pathlib import Path
from typing import Annotated

import typer

from headwater_indexer.progress import TerminalProgress

Url = Annotated[str, typer.Argument(help="Where on shared storage: s3://, gs://, file:// or another of fsspec's.")]


def push(
    index: Annotated[Path, typer.Argument(help="Folder of an index.")],
    url: Url,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another index at the URL.")] = False,
) -> None:
    """Put the current version of an index on shared storage. The same command resumes, and sends what is new.

    Whoever pulls sees the version before or this one, whole. What this one does not name is deleted there.
    """
    from headwater_indexer.storage.exchange import push_index

    manifest = push_index(index, url, overwrite=overwrite, progress=TerminalProgress())
    typer.echo(f"{url}: {manifest.documents:,} documents, {manifest.bytes / 1e6:,.1f} MB\n{manifest.version}", err=True)


def pull(url: Url, index: Annotated[Path, typer.Argument(help="Folder: a new one, or an older version's.")]) -> None:
    """Fetch an index from shared storage, each file checked against the manifest. The same command resumes."""
    from headwater_indexer.storage.exchange import pull_index

    manifest = pull_index(url, index, progress=TerminalProgress())
    typer.echo(f"{index}: {manifest.documents:,} documents\n{manifest.version}", err=True)
