"""Dataclasses of options as options of a command: one for each field, with its type, default and help."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_type_hints, overload

import typer

from headwater_indexer.corpus import Fields
from headwater_indexer.options import BuildOptions

Model = Annotated[str, typer.Option(help="Folder of a causal language model or an adapter, or its name on the hub.")]
Documents = Annotated[
    str,
    typer.Option(
        help="JSONL (.gz, .zst), CSV, Parquet, a folder of text files, or a Hugging Face dataset: a folder or a name. "
        "Files and folders may be URLs (s3://, gs://)."
    ),
]
Revision = Annotated[str | None, typer.Option(help="Commit, tag or branch of the model on the hub.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, or balanced: over all GPUs.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another index in --out.")]
Command = Callable[..., None]


@overload
def taking_build_options(command: Command) -> Command: ...


@overload
def taking_build_options(**defaults: Any) -> Callable[[Command], Command]: ...


def taking_build_options(command: Command | None = None, **defaults: Any) -> Command | Callable[[Command], Command]:
    """Replaces the parameter `options` of a command by one option for each field of BuildOptions and of Fields
    (`--id-field` and the like). `defaults` are this command's own where they differ."""
    if command is None:
        return lambda decorated: _taking(decorated, defaults)
    return _taking(command, defaults)


def _taking(command: Command, defaults: dict[str, Any]) -> Command:
    hints = get_type_hints(BuildOptions)
    parameters = {
        field.name: _parameter(field.name, hints[field.name], defaults.get(field.name, field.default), field.metadata)
        for field in fields(BuildOptions)
        if field.default is not MISSING
    }
    parameters |= _field_parameters()

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        taken = {name: arguments.pop(name) for name in parameters}
        names = _named_fields(taken)
        command(options=BuildOptions(**taken, fields=names), **arguments)

    _sign(run, command, "options", parameters)
    return run


def taking(name: str, options: type[Any]) -> Callable[[Command], Command]:
    """Replaces the parameter `name` of a command by one option for each field of the dataclass `options`."""
    hints = get_type_hints(options)
    parameters = {
        field.name: _parameter(field.name, hints[field.name], field.default, field.metadata)
        for field in fields(options)
    }
    return _replacing(name, parameters, lambda taken: options(**taken))


def taking_fields(command: Command) -> Command:
    """Replaces the parameter `names` by the options --id-field, --text-field and so on."""
    return _replacing("names", _field_parameters(), _named_fields)(command)


def _field_parameters() -> dict[str, inspect.Parameter]:
    return {
        f"{field.name}_field": _parameter(
            f"{field.name}_field", str, field.default, {"help": f"Name of the field with a document's {field.name}."}
        )
        for field in fields(Fields)
    }


def _named_fields(taken: dict[str, Any]) -> Fields:
    return Fields(**{field.name: taken.pop(f"{field.name}_field") for field in fields(Fields)})


def _replacing(
    name: str, parameters: dict[str, inspect.Parameter], make: Callable[[dict[str, Any]], Any]
) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            taken = {field: arguments.pop(field) for field in parameters}
            command(**{name: make(taken)}, **arguments)

        _sign(run, command, name, parameters)
        return run

    return decorate


def _sign(run: Any, command: Command, replaced: str, parameters: dict[str, inspect.Parameter]) -> None:
    """Gives `run` the command's signature with the parameter `replaced` by others."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    merged = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != replaced]
    run.__signature__ = inspect.Signature([*merged, *parameters.values()])
    run.__annotations__ = {p.name: p.annotation for p in [*merged, *parameters.values()]}


def _parameter(name: str, hint: Any, default: Any, metadata: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[hint, typer.Option(help=metadata["help"])],
    )
