"""The `headwater` command: the client's verbs, as tables for people and as JSON for programs."""

import io
import json
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Annotated, NoReturn

import typer
from rich.console import RenderableType

from headwater import table
from headwater.arguments import BAD_DATA, as_object, both, characters, questions_that_can_be_asked
from headwater.client import Client
from headwater.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    RateLimitError,
    ServiceUnavailableError,
)
from headwater.types import Answer, Finder, IndexList, Score, Sign
from headwater.wire import __version__

UNREACHABLE, NOT_ALLOWED = 69, 77  # as in sysexits.h
EXIT_CODES = {400: BAD_DATA, 404: BAD_DATA, 413: BAD_DATA, 422: BAD_DATA, 401: NOT_ALLOWED, 403: NOT_ALLOWED}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would show the key
)

EXPLAINING, RELOADING = 300.0, 600.0  # seconds: passes through the model, and an index verified and loaded

Span = Annotated[str | None, typer.Option(help="Ask about these characters of the response alone, as START:STOP.")]
Index = Annotated[str, typer.Option(help="Which of the server's indexes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code.

    0; 1 an error of the server; 2 usage; 65 the question is refused; 69 no server; 77 the key does not do.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to fail
    try:
        app(args=arguments, prog_name="headwater")
    except APIError as error:
        typer.echo(f"headwater: {table.plain(str(error))}{advice(error)}", err=True)
        sys.exit(exit_code(error))
    sys.exit(0)


def print_version(asked: bool) -> None:
    """Print the version and leave, for --version."""
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    base_url: Annotated[
        str | None, typer.Option(envvar="HEADWATER_BASE_URL", help="The server; http://127.0.0.1:8000 unless given.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="HEADWATER_API_KEY", help="Its key; in the environment, other users cannot read it."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which training documents made the model say that? Ask a Headwater server."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            context.obj = context.with_resource(Client(base_url, api_key=api_key))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    for warning in caught:
        typer.echo(f"headwater: warning: {warning.message}", err=True)


@app.command()
def attribute(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Option(help="The text before the response, as the model saw it.")] = None,
    response: Annotated[str | None, typer.Option(help="What the model wrote.")] = None,
    prompt_file: Annotated[str | None, typer.Option(help="Read the prompt from this file; - for stdin.")] = None,
    response_file: Annotated[str | None, typer.Option(help="Read the response from this file; - for stdin.")] = None,
    top_k: Annotated[int, typer.Option(min=1, max=1000, help="How many documents.")] = 10,
    index: Index = "default",
    score: Annotated[Score, typer.Option(help="Which score ranks the documents.")] = "relatif",
    sign: Annotated[
        Sign, typer.Option(help="positive: made the response likelier; negative: less likely.")
    ] = "positive",
    span: Span = None,
    filters: Annotated[
        str | None,
        typer.Option(help='Search these alone, as JSON: \'{"must": [{"key": "metadata.year", "equals": 1603}]}\'.'),
    ] = None,
    rescore: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Score so many of the best again: better, and slower.")
    ] = None,
    method: Annotated[Finder, typer.Option(help="influence, or a baseline to compare with.")] = "influence",
    as_json: AsJson = False,
) -> None:
    """Rank the training documents that made the model give this response to this prompt.

    Files are read to the byte, a last line end included: it is part of what the model saw. Scores are estimates.
    """
    prompt, response = both(prompt, prompt_file, response, response_file)
    client: Client = context.obj
    with questions_that_can_be_asked():
        answer = client.attribute(
            prompt=prompt,
            response=response,
            span=characters(span),
            top_k=top_k,
            index=index,
            score=score,
            sign=sign,
            filters=as_object(filters),
            rescore=rescore,
            method=None if method == "influence" else method,
        )
    tell(answer, as_json, table.attribution(answer))


@app.command()
def explain(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Documents to explain.")],
    prompt: Annotated[str | None, typer.Option(help="The text before the response, as the model saw it.")] = None,
    response: Annotated[str | None, typer.Option(help="What the model wrote.")] = None,
    prompt_file: Annotated[str | None, typer.Option(help="Read the prompt from this file; - for stdin.")] = None,
    response_file: Annotated[str | None, typer.Option(help="Read the response from this file; - for stdin.")] = None,
    index: Index = "default",
    span: Span = None,
    as_json: AsJson = False,
) -> None:
    """Tell which tokens the influence of documents on a response is made of, the strongest first."""
    prompt, response = both(prompt, prompt_file, response, response_file)
    client: Client = context.obj
    with questions_that_can_be_asked():
        answer = client.explain(
            prompt=prompt, response=response, document_ids=ids, index=index, span=characters(span), timeout=EXPLAINING
        )
    tell(answer, as_json, table.explanation(answer))


@app.command()
def reload(context: typer.Context, index: Index = "default", as_json: AsJson = False) -> None:
    """Let the server open an index anew and serve it; wants an administrator's key."""
    client: Client = context.obj
    answer = client.reload(index, timeout=RELOADING)
    tell(answer, as_json, table.indexes(IndexList(data=[answer])))


@app.command()
def document(context: typer.Context, id: str, index: Index = "default", as_json: AsJson = False) -> None:
    """Print a training document: its source, its metadata and its text."""
    client: Client = context.obj
    try:
        record = client.document(id, index=index)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    tell(record, as_json, table.document(record))


@app.command()
def documents(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Documents to print.")],
    index: Index = "default",
    as_json: AsJson = False,
) -> None:
    """Print several training documents, one after the other; as JSON, `data` holds them."""
    client: Client = context.obj
    try:
        records = [client.document(id, index=index) for id in ids]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"data": [record.model_dump(mode="json") for record in records]}, indent=2))
        return
    for number, record in enumerate(records):
        if number:
            typer.echo()
        tell(record, as_json, table.document(record))


@app.command()
def attribution(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="Of an answer, or what a chat's X-Attribution-ID header says.")],
    as_json: AsJson = False,
) -> None:
    """Print an answer of before again, while the server keeps it; a chat's is waited for while it is made."""
    client: Client = context.obj
    try:
        answer = client.attribution(id)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    tell(answer, as_json, table.attribution(answer))


@app.command()
def indexes(context: typer.Context, as_json: AsJson = False) -> None:
    """List the indexes that the server holds, with their models and methods."""
    client: Client = context.obj
    answer = client.indexes()
    tell(answer, as_json, table.indexes(answer))


@app.command()
def health(context: typer.Context, as_json: AsJson = False) -> None:
    """Ask whether the server answers questions now; the exit code is 0 only if it does."""
    client: Client = context.obj
    answer = client.health()
    tell(answer, as_json, [table.plain(f"{client.base_url} {answer.status}")])


def tell(answer: Answer, as_json: bool, readable: Iterable[RenderableType]) -> None:
    """Print an answer to stdout; its JSON is ASCII, which no terminal and no locale can spoil."""
    if as_json:
        typer.echo(json.dumps(answer.model_dump(mode="json"), indent=2))
        return
    for part in readable:
        table.show(part)


def exit_code(error: APIError) -> int:
    """What the shell is told of an error."""
    if isinstance(error, APIConnectionError):
        return UNREACHABLE
    return EXIT_CODES.get(error.status_code, 1) if isinstance(error, APIStatusError) else 1


def advice(error: APIError) -> str:
    """What to do about an error, where its message does not say."""
    match error:
        case APITimeoutError():
            return ""
        case APIConnectionError():
            return "\nStart a server with `headwater-serve my.index`, or name yours with --base-url."
        case RateLimitError() if error.retry_after:
            return f"\nThe server asks for a pause of {error.retry_after:.0f} s."
        case ServiceUnavailableError():
            return "\nThe server is loading or shutting down: ask again in a while."
        case APIStatusError() if exit_code(error) == NOT_ALLOWED:
            return "\nGive the server's key in HEADWATER_API_KEY, or with --api-key."
        case APIStatusError(status_code=404):
            return "\nSee what the server holds with `headwater indexes`."
        case _:
            return ""
