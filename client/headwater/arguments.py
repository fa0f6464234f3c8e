"""What is written on the command line, as the client takes it; what cannot be meant is told by the option."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

BAD_DATA = 65  # as in sysexits.h


def both(
    prompt: str | None, prompt_file: str | None, response: str | None, response_file: str | None
) -> tuple[str, str]:
    """Prompt and response, each from its option or its file."""
    if prompt_file == response_file == "-":
        raise typer.BadParameter("stdin can hold one of the prompt and the response, not both")
    return given("prompt", prompt, prompt_file), given("response", response, response_file)


def characters(span: str | None) -> tuple[int, int] | None:
    """START:STOP as two numbers."""
    if span is None:
        return None
    start, colon, stop = span.partition(":")
    if not (colon and start.isdecimal() and stop.isdecimal()):
        raise typer.BadParameter("--span takes START:STOP, such as 0:12")
    return int(start), int(stop)


def as_object(text: str | None) -> dict[str, Any] | None:
    """The JSON object that an option holds."""
    try:
        value = None if text is None else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--filters is not JSON: {error}") from error
    if not isinstance(value, dict | None):
        raise typer.BadParameter("--filters is not a JSON object")
    return value


@contextmanager
def questions_that_can_be_asked() -> Iterator[None]:
    """A question that cannot be asked is a mistake on the command line, told by its field."""
    try:
        yield
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise typer.BadParameter(told) from error


def given(name: str, text: str | None, file: str | None) -> str:
    """The text of an option, or of the file that stands in for it."""
    if (text is None) == (file is None):
        raise typer.BadParameter(f"give exactly one of --{name} and --{name}-file")
    if file is None:
        return text or ""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"--{name}-file {file}: {error.strerror}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        typer.echo(f"headwater: --{name}-file {file} is not UTF-8: {error.reason} at byte {error.start}", err=True)
        raise typer.Exit(BAD_DATA) from error
