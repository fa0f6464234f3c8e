"""The commands that look at an index, and give what it knows to other programs: stats, export, import."""

import json
from pathlib import Path
from typing import Annotated

import typer

from headwater_indexer.command_options import Device, Documents, Model, Overwrite, Revision
from headwater_indexer.errors import UsageError
from headwater_indexer.options import BuildOptions
from headwater_indexer.progress import TerminalProgress
from headwater_indexer.search import ScoreKind


def stats(index: Annotated[Path, typer.Argument(help="Folder of an index.")]) -> None:
    """Print an index in numbers as JSON: its documents and sources, the lengths of their rows, and what takes room."""
    from headwater_indexer.stats import describe

    typer.echo(json.dumps(describe(index), indent=2, ensure_ascii=False))


def export(
    index: Annotated[Path, typer.Argument(help="Folder of an index.")],
    out: Annotated[Path, typer.Option(help="The .parquet or .jsonl file to write.")],
    queries: Annotated[Path | None, typer.Option(help='JSONL of {"id", "prompt", "response"}.')] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Proponents, and opponents, of each question.")] = 20,
    score: Annotated[ScoreKind, typer.Option(help="That documents are ranked by.")] = "relatif",
    model: Annotated[str | None, typer.Option(help="The model, where it has moved since the build.")] = None,
    device: Device = "auto",
) -> None:
    """Write all rows as Parquet; or, with --queries, attributions as JSONL, as PAIR's viewer of them reads it.

    A row is in float32, decoded where it is stored in codes; the inner product of two is influence.
    """
    from headwater_indexer.export import export_attributions, export_rows

    progress, suffix = TerminalProgress(), ".parquet" if queries is None else ".jsonl"
    if out.suffix != suffix:
        raise UsageError(
            f"--out {out}: give it the suffix {suffix}, {'without' if queries is None else 'with'} --queries"
        )
    if queries is None:
        typer.echo(f"{out}: {export_rows(index, out, progress=progress):,} rows", err=True)
        return
    from headwater_indexer.index import Index
    from headwater_indexer.scores import read_queries

    asked = read_queries(queries)
    opened = Index.open(index, device=device, model=model, progress=progress)
    try:
        count = export_attributions(opened, asked, out, top_k=top_k, score=score, progress=progress)
    finally:
        opened.close()
    typer.echo(f"{out}: {count:,} questions", err=True)


def import_store(
    store: Annotated[Path, typer.Argument(help="Folder of gradients that bergson's build made.")],
    model: Model,
    documents: Documents,
    out: Annotated[Path, typer.Option(help="Folder of the index.")],
    row_bytes: Annotated[int | None, typer.Option("--bytes", help="Of a document's row. (default: float32)")] = None,
    damping: Annotated[float, typer.Option(help="As in build.")] = BuildOptions().damping,
    revision: Revision = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Build an index of gradients that bergson has stored, of these documents in their order, without capturing them.

    The gradients of eight documents are captured again and compared.
    """
    from headwater_indexer.bergson.importing import import_bergson

    options = BuildOptions(bytes=row_bytes, bits=32 if row_bytes is None else None, damping=damping)
    manifest = import_bergson(
        store,
        model,
        documents,
        out,
        options,
        revision=revision,
        device=device,
        overwrite=overwrite,
        progress=TerminalProgress(),
    )
    typer.echo(f"{out}: {manifest.documents:,} documents\n{manifest.version}", err=True)
