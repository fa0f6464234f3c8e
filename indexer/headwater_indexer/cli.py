"""The `headwater-index` command: build an index, look at one, grade one. Data to stdout, progress to stderr."""

import json
import logging
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from headwater_indexer import evaluation_commands, explain_command, export_commands, life_commands, storage_commands
from headwater_indexer.checkpoint import quiet_loading
from headwater_indexer.command_options import (
    Device,
    Documents,
    Model,
    Overwrite,
    Revision,
    taking,
    taking_build_options,
)
from headwater_indexer.engines.options import EngineOptions
from headwater_indexer.errors import HeadwaterError
from headwater_indexer.memory import parse_size
from headwater_indexer.options import BuildOptions, ScoreMethod
from headwater_indexer.progress import TerminalProgress

INTERRUPTED = 130  # what typer makes of KeyboardInterrupt
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)


@app.command()
@taking_build_options
@taking("engine", EngineOptions)
def build(
    options: BuildOptions,
    engine: EngineOptions,
    model: Model,
    documents: Documents,
    out: Annotated[Path, typer.Option(help="Folder of the index.")],
    revision: Revision = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    keep_gradients: Annotated[
        bool, typer.Option("--keep-gradients", help="Keep the rows from before the Hessian as well.")
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="The most that the build, and a server of the index, may hold: 8GB. (no limit)")
    ] = None,
) -> None:
    """Build the index of a corpus for a model. The same command resumes a build that was interrupted."""
    from headwater_indexer.build import build_index

    manifest = build_index(
        model,
        documents,
        out,
        options,
        revision=revision,
        device=device,
        overwrite=overwrite,
        keep_gradients=keep_gradients,
        memory=None if memory is None else parse_size(memory),
        engine=engine,
        progress=TerminalProgress(),
    )
    typer.echo(
        f"{out}: {manifest.documents:,} documents, {manifest.tokens:,} tokens, {manifest.width:,} columns from "
        f"{len(manifest.layers)} layers, {manifest.bytes / 1e6:,.1f} MB\n"
        f"{manifest.version}\nServe it: headwater-serve {out}",
        err=True,
    )
    if manifest.documents_without_gradient:
        typer.echo(f"{manifest.documents_without_gradient} documents have no gradient and will not be found", err=True)


@app.command()
@taking_build_options(long_documents="truncate")
def scores(
    options: BuildOptions,
    model: Model,
    documents: Documents,
    queries: Annotated[Path, typer.Option(help='JSONL of {"id", "prompt", "response"}.')],
    out: Annotated[Path, typer.Option(help="The .npy file to write: float32 [queries, documents].")],
    method: Annotated[
        ScoreMethod, typer.Option(help="influence, a baseline, or hybrid: influence and BM25 together.")
    ] = "influence",
    rescore: Annotated[
        str | None,
        typer.Option(help="all, or how many of the best documents are scored again by unprojected gradients (EK-FAC)."),
    ] = None,
    refine: Annotated[
        int, typer.Option(min=0, help="Steps past EK-FAC when scoring again: 2 are worth their time, more hardly.")
    ] = 0,
    revision: Revision = None,
    device: Device = "auto",
) -> None:
    """Write the influence of every document on every query, to be graded against models retrained on subsets.

    Long documents and queries are cut at their end here, as the training scripts behind such ground truths cut them;
    `--long-documents windows` counts all of a document.
    """
    from headwater_indexer.ekfac.matrix import Rescoring
    from headwater_indexer.scores import write_scores

    shape = write_scores(
        model,
        documents,
        queries,
        out,
        options,
        method=method,
        rescoring=Rescoring.parse(rescore, refine),
        revision=revision,
        device=device,
        progress=TerminalProgress(),
    )
    typer.echo(f"{out}: {shape[0]} queries, {shape[1]} documents", err=True)


@app.command()
def info(index: Annotated[Path, typer.Argument(help="Folder of an index.")]) -> None:
    """Print what an index is made of as JSON: its documents in numbers, and its manifest."""
    from headwater_indexer.manifest import Manifest

    manifest = Manifest.read(index)
    typer.echo(json.dumps(manifest.summary | manifest.model_dump(mode="json"), indent=2))


@app.command()
def verify(index: Annotated[Path, typer.Argument(help="Folder of an index.")]) -> None:
    """Check every file of an index against its manifest."""
    from headwater_indexer.index import verify_index

    manifest = verify_index(index, TerminalProgress())
    typer.echo(f"{index} is whole: {len(manifest.files)} files, {manifest.version}")


@app.command()
def check_model(
    model: Annotated[str, typer.Argument(help="Folder of a causal language model or an adapter, or its name.")],
    layers: Annotated[
        str | None, typer.Option(help="Layers whose rows are measured, as in build. (default: all that can be watched)")
    ] = None,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="Of the weights, as in build.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print all that was found as JSON.")] = False,
) -> None:
    """Tell which layers of a model can be watched, and whether its rows depend on their batch: the status is 1 then."""
    from headwater_indexer import check_model as checking
    from headwater_indexer.check_table import print_report
    from headwater_indexer.checkpoint import load_checkpoint

    report = checking.check_model(load_checkpoint(model, revision=revision, device=device, dtype=dtype), layers)
    if as_json:
        typer.echo(json.dumps(asdict(report) | {"independent": report.independent}, indent=2))
    else:
        print_report(report)
    if not report.independent:
        raise typer.Exit(1)


for command in (
    life_commands.append,
    life_commands.remove,
    life_commands.compact,
    life_commands.versions,
    life_commands.rollback,
    export_commands.stats,
    export_commands.export,
    storage_commands.push,
    storage_commands.pull,
):
    app.command()(command)
app.command("import")(export_commands.import_store)
app.command()(evaluation_commands.groundtruth)
app.command()(evaluation_commands.evaluate)
app.command()(explain_command.explain)


def main() -> None:
    """Runs the command; a HeadwaterError becomes one sentence on stderr and its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C; the first process of a container ignores it
    logging.captureWarnings(True)
    quiet_loading()
    try:
        app()
    except HeadwaterError as error:
        typer.echo(f"headwater-index: {error}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            typer.echo("headwater-index: interrupted; the same command resumes", err=True)
        raise


if __name__ == "__main__":
    main()
