"""The commands that tell how good an attribution is: groundtruth and evaluate."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from headwater_indexer.command_options import Device, Documents, Model, taking, taking_build_options, taking_fields
from headwater_indexer.corpus import Fields
from headwater_indexer.errors import UsageError
from headwater_indexer.evaluation.journal import TruthOptions
from headwater_indexer.evaluation.training import TrainingOptions
from headwater_indexer.options import BuildOptions
from headwater_indexer.progress import TerminalProgress


@taking("options", TruthOptions)
@taking("training", TrainingOptions)
@taking_fields
def groundtruth(
    options: TruthOptions,
    training: TrainingOptions,
    names: Fields,
    model: Model,
    documents: Documents,
    out: Annotated[Path, typer.Option(help="Folder of the ground truth.")],
    queries: Annotated[
        Path | None, typer.Option(help='JSONL of {"id", "prompt", "response"}; made of the documents without it.')
    ] = None,
    train_script: Annotated[
        str | None,
        typer.Option(
            help="A command that trains instead, called as COMMAND DOCUMENTS_FOLDER OUTPUT_FOLDER: it reads "
            "documents.jsonl and training.json there and saves a model and tokenizer (save_pretrained)."
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Retrain a model on random halves of a corpus, to grade attributions by. The same command resumes.

    --model is what every training starts from: a base to fine-tune, or freshly initialised weights to train from
    scratch. The folder holds model/ (trained on everything), base/, train.jsonl, queries.jsonl and lds.npz.
    """
    from headwater_indexer.evaluation.groundtruth import make_ground_truth

    truth = make_ground_truth(
        model,
        documents,
        out,
        options,
        training,
        queries=queries,
        train_script=train_script,
        fields=names,
        device=device,
        progress=TerminalProgress(),
    )
    subsets, seeds, count = truth.seed_losses.shape
    typer.echo(
        f"{out}: {subsets} halves, {seeds} trainings each, {count} queries\n"
        f"Grade by it: headwater-index evaluate --truth {out} --out evaluation",
        err=True,
    )


@taking_build_options(long_documents="truncate")
@taking("training", TrainingOptions)
def evaluate(
    options: BuildOptions,
    training: TrainingOptions,
    out: Annotated[Path, typer.Option(help="Folder for evaluation.json, report.html and what is kept to resume.")],
    index: Annotated[
        Path | None, typer.Option(help="Folder of an index; without it one of the truth's model is built in --out.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Folder of a ground truth, for lds and qld.")] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help='JSONL of {"id", "prompt", "response"}, and "source_id" or "source". (default: the truth\'s)'
        ),
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(help="lds, tail-patch, qld, recall, with commas. (default: all that need no retraining)"),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help="influence, relatif, rescored, refined, hybrid, bm25, hidden-states, random, with commas."),
    ] = "influence,relatif,bm25,random",
    rescore: Annotated[
        str, typer.Option(help="all, or how many of the best documents rescored and refined score again.")
    ] = "all",
    refine: Annotated[int, typer.Option(min=1, help="Steps past EK-FAC of refined.")] = 2,
    top_k: Annotated[int, typer.Option(min=1, help="Documents in the step of a tail-patch.")] = 10,
    qld_queries: Annotated[int, typer.Option(min=1, help="Queries that qld retrains for.")] = 8,
    qld_seeds: Annotated[int, typer.Option(min=1, help="Trainings for each of them and each method.")] = 2,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the index of other options in --out, built by an earlier call.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Measure an index's scores, and baselines beside them, with 95 % intervals; JSON to stdout, a report to --out.

    lds: do summed scores foretell the losses of retrained models? tail-patch: does one step on the documents found make
    the response likelier? qld: does retraining without the best 1 % make it less likely? recall: is a known source
    found? Options of the build count where no --index is given, those of training where the truth does not say its own.
    """
    from headwater_indexer.build import build_index
    from headwater_indexer.durable import make_folder
    from headwater_indexer.ekfac.matrix import Rescoring
    from headwater_indexer.evaluation.evaluate import EvaluateOptions, Measure, parse_measures
    from headwater_indexer.evaluation.evaluate import evaluate as measure
    from headwater_indexer.evaluation.methods import NEED_FACTORS, parse_methods
    from headwater_indexer.evaluation.truth import GroundTruth
    from headwater_indexer.index import Index
    from headwater_indexer.scores import read_queries

    progress = TerminalProgress()
    chosen = parse_methods(methods)
    rescoring = Rescoring.parse(rescore, refine) or Rescoring()
    options = replace(options, factors=options.factors or bool(NEED_FACTORS & set(chosen)))
    taken: tuple[Measure, ...] | None = parse_measures(measures) if measures else None
    found = GroundTruth.load(truth) if truth else None
    if found is None and (index is None or queries is None):
        raise UsageError("give --truth, or both --index and --queries")
    if queries is None:
        assert found is not None  # noqa: S101 - said above
        queries = found.queries
    asked = read_queries(queries)
    make_folder(out)
    if index is None:
        assert found is not None  # noqa: S101 - said above
        index = out / "index"
        model, documents = str(found.model), str(found.documents)
        build_index(model, documents, index, options, device=device, overwrite=overwrite, progress=progress)
    opened = Index.open(index, device=device, progress=progress)
    try:
        how = EvaluateOptions(
            methods=chosen,
            candidates=rescoring.candidates,
            refine=refine,
            measures=taken,
            top_k=top_k,
            qld_queries=qld_queries,
            qld_seeds=qld_seeds,
            training=training,
        )
        evaluation = measure(opened, asked, out, how, truth=found, device=device, progress=progress)
    finally:
        opened.close()
    evaluation.write(out)
    typer.echo(json.dumps(evaluation.as_json(), indent=1))
    typer.echo(f"{out}: evaluation.json, report.html", err=True)
