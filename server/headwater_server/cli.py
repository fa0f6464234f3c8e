"""`headwater-serve`: open one or more index folders and answer questions about them over HTTP."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from headwater_indexer.errors import ConfigurationError, HeadwaterError, UsageError
from headwater_server.settings import INDEX_NAME, Settings, read_settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SWITCH_SECONDS = 0.0005  # Python's own is 0.005
_SERVER = "Server"
_LIMITS = "Limits"
_ACCESS = "Access"
_GATEWAY = "Gateway"


@app.command()
def serve(
    indexes: Annotated[
        list[str],
        typer.Argument(
            metavar="INDEX_FOLDER [NAME=FOLDER]...",
            help="A folder, or a URL (s3://, gs://) that is pulled, is served as `default` or as NAME.",
        ),
    ],
    host: Annotated[str | None, typer.Option(help="Address to listen on. [127.0.0.1]", rich_help_panel=_SERVER)] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. [8000]", rich_help_panel=_SERVER)] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N. [auto]", rich_help_panel=_SERVER)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the indexed model lies now, if it moved.", rich_help_panel=_SERVER)
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(help="How indexes are searched: auto, exact or two-stage. [auto]", rich_help_panel=_SERVER),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="The most that the server may hold: 8GB. [no limit]", rich_help_panel=_SERVER)
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="local, or ray: Ray Serve searches on a cluster (RAY_ADDRESS). [local]", rich_help_panel=_SERVER
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(help="Ray: parts that an index is cut into. [one a node]", rich_help_panel=_SERVER),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Ray: how often each part is there, on other nodes. [1]", rich_help_panel=_SERVER)
    ] = None,
    shard_timeout: Annotated[
        float | None,
        typer.Option(help="Ray: seconds until a lost part of an index gets 503. [30]", rich_help_panel=_SERVER),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that indexes at URLs are pulled to. [~/.cache/headwater]", rich_help_panel=_SERVER),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of torch and FAISS.", rich_help_panel=_SERVER)] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json. [text]", rich_help_panel=_SERVER)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug to error. [info]", rich_help_panel=_SERVER)] = None,
    opentelemetry: Annotated[
        bool | None,
        typer.Option(
            "--opentelemetry",
            help="Send spans as the OTEL_* variables say; needs headwater[telemetry].",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    max_queue_tokens: Annotated[
        int | None, typer.Option(help="Tokens that may wait; then 429. [65536]", rich_help_panel=_LIMITS)
    ] = None,
    max_queue_requests: Annotated[
        int | None, typer.Option(help="Questions that may wait; then 429. [256]", rich_help_panel=_LIMITS)
    ] = None,
    max_batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens of a batch, padding counted. [8192]", rich_help_panel=_LIMITS)
    ] = None,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds until a question gets 504. [60]", rich_help_panel=_LIMITS)
    ] = None,
    slow_request_timeout: Annotated[
        float | None, typer.Option(help="The same with `rescore`, and to explain. [300]", rich_help_panel=_LIMITS)
    ] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(help="Seconds for answers under way after SIGTERM. [30]", rich_help_panel=_LIMITS)
    ] = None,
    keep_attributions: Annotated[
        int | None, typer.Option(help="Answers kept for GET /v1/attributions/ID. [1000]", rich_help_panel=_LIMITS)
    ] = None,
    keep_bytes: Annotated[
        int | None, typer.Option(help="Bytes of those answers together. [67108864]", rich_help_panel=_LIMITS)
    ] = None,
    keep_seconds: Annotated[
        float | None, typer.Option(help="How long they are kept. [3600]", rich_help_panel=_LIMITS)
    ] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option(help="Largest body; then 413. [1048576]", rich_help_panel=_LIMITS)
    ] = None,
    max_request_tokens: Annotated[
        int | None, typer.Option(help="Tokens of one question. [what its index takes]", rich_help_panel=_LIMITS)
    ] = None,
    max_characters: Annotated[
        int | None, typer.Option(help="Longest prompt and response together. [200000]", rich_help_panel=_LIMITS)
    ] = None,
    api_keys_file: Annotated[
        Path | None, typer.Option(help="File with one API key a line.", rich_help_panel=_ACCESS)
    ] = None,
    admin_keys_file: Annotated[
        Path | None, typer.Option(help="The same for keys that may also reload indexes.", rich_help_panel=_ACCESS)
    ] = None,
    withhold_text: Annotated[
        bool | None,
        typer.Option("--withhold-text", help="Let no document's text leave the server.", rich_help_panel=_ACCESS),
    ] = None,
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            help="Names in the Host header, by comma; * for any. [this machine's, where it serves it alone]",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    cors_origins: Annotated[
        str | None, typer.Option(help="Origins whose pages may ask, by comma. [none]", rich_help_panel=_ACCESS)
    ] = None,
    allow_unauthenticated: Annotated[
        bool | None,
        typer.Option("--allow-unauthenticated", help="Serve other machines without a key.", rich_help_panel=_ACCESS),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(help="Base URL of an OpenAI-compatible endpoint; none is no gateway.", rich_help_panel=_GATEWAY),
    ] = None,
    upstream_key_file: Annotated[
        Path | None, typer.Option(help="File with its key; or HEADWATER_UPSTREAM_KEY.", rich_help_panel=_GATEWAY)
    ] = None,
    upstream_forward_key: Annotated[
        bool | None,
        typer.Option("--upstream-forward-key", help="Send it the caller's key instead.", rich_help_panel=_GATEWAY),
    ] = None,
    upstream_model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[INDEX=]NAME", help="What it calls the indexed model, if not the same.", rich_help_panel=_GATEWAY
        ),
    ] = None,
    upstream_timeout: Annotated[
        float | None, typer.Option(help="Seconds that it may be silent. [300]", rich_help_panel=_GATEWAY)
    ] = None,
    attribution_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that a chat waits for its attribution. [30]", rich_help_panel=_GATEWAY),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the same names as the flags.")] = None,
) -> None:
    """Answer which training documents made the model say that.

    Each flag is also HEADWATER_<NAME> in the environment (HEADWATER_API_KEYS=key,key and HEADWATER_ADMIN_KEYS for
    keys, plainly or as sha256:HASH) and a line of --config;
    a flag wins over the environment, and that over the file.
    """
    flags = {name: value for name, value in locals().items() if name not in ("indexes", "config")}
    settings = read_settings(flags, config)
    folders = _name_folders(indexes)
    with _bind(settings) as listener:  # before the model is loaded: a taken port is told at once
        _serve(folders, settings, listener)


def main() -> None:
    """Run the command; one sentence on stderr and the error's exit code, no traceback."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container would ignore it
    try:
        app()
    except HeadwaterError as error:
        _tell(f"error: {error}")
        sys.exit(error.exit_code)


def _name_folders(given: Sequence[str]) -> dict[str, str]:
    """`FOLDER` is the index named default; `NAME=FOLDER` any other."""
    folders: dict[str, str] = {}
    for word in given:
        name, equals, folder = word.partition("=")
        if not equals or "://" in name:
            name, folder = "default", word
        if not INDEX_NAME.fullmatch(name):
            raise UsageError(
                f"'{name}' cannot name an index: use up to 64 of a-z, 0-9, dot, underscore and hyphen, "
                "with a letter or digit first"
            )
        if name in folders:
            raise UsageError(f"Two folders are named '{name}': give one as NAME=FOLDER")
        folders[name] = folder
    return folders


def _bind(settings: Settings) -> socket.socket:
    """A listening socket. Raises ConfigurationError that names the port and the way out."""
    host = settings.host.strip("[]")
    try:
        family = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(f"{host} is no address of this machine ({error.strerror}): change --host") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, settings.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Port {settings.port} on {host} cannot be used ({error.strerror}): stop the program that holds it, "
            f"or choose another with --port"
        ) from None
    return listener


def _serve(folders: dict[str, str], settings: Settings, listener: socket.socket) -> None:
    if settings.threads is not None:  # read once, when faiss and torch are imported
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    from headwater_indexer.checkpoint import Checkpoint, quiet_loading
    from headwater_indexer.engines.cluster import joined
    from headwater_server.app import create_app
    from headwater_server.engine import Engine
    from headwater_server.logs import configure
    from headwater_server.opening import open_index
    from headwater_server.running import Server

    # The model's thread lets go of the interpreter at every operation, and must get it back soon beside a busy loop.
    sys.setswitchinterval(SWITCH_SECONDS)
    configure(settings.log_format, settings.log_level)
    quiet_loading()

    def loaded() -> list[Checkpoint]:
        return [index.checkpoint for _, index in engine.library.items()]

    openers = {name: partial(open_index, folder, settings, loaded) for name, folder in folders.items()}
    engine = Engine(openers, settings)
    server = Server(create_app(engine, settings), engine, settings)
    host, port = listener.getsockname()[:2]
    at = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _tell(f"Headwater listens on {at} and opens {', '.join(folders)}. Ctrl-C stops it.")
    with joined() if settings.engine == "ray" else nullcontext():
        # uvicorn raises the signal again once it has drained; by then it has been obeyed. Ray would end the process.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listener])
    if engine.failure is not None:
        raise (
            engine.failure
            if isinstance(engine.failure, HeadwaterError)
            else HeadwaterError(f"The server stopped ({type(engine.failure).__name__}): its log says where")
        )
    _tell("Headwater has stopped.")


def _tell(sentence: str) -> None:
    typer.echo(sentence, err=True)
