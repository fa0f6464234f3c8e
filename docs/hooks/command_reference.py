"""reference/commands.md, made of the parsers of the three commands themselves."""

from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

INTRODUCTION = """# The commands

Data goes to stdout, progress and messages to stderr. Codes: 0; 1 an error at run time; 2 usage; 65 bad data or a
question that is refused; 69 no server or upstream; 77 a key that does not do; 78 configuration.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs calls this once it knows the files of the site."""
    files.append(File.generated(config, "reference/commands.md", content=render()))
    return files


def render() -> str:
    """All commands as Markdown, with every argument and option."""
    from headwater.cli import app as client
    from headwater_indexer.cli import app as indexer
    from headwater_server.cli import app as server

    programs = {"headwater": client, "headwater-index": indexer, "headwater-serve": server}
    parts = [part for name, app in programs.items() for part in _program(name, typer.main.get_command(app))]
    return "\n".join([INTRODUCTION, *parts]) + "\n"


def _program(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}\n"
    yield from _described(command)
    for below, subcommand in getattr(command, "commands", {}).items():
        yield f"### {name} {below}\n"
        yield from _described(subcommand)


def _described(command: Any) -> Iterator[str]:
    yield f"{command.help or ''}\n"
    options = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    if not options:
        return
    yield "| argument or option | default | |\n|---|---|---|"
    for parameter in options:
        yield f"| {_name(parameter)} | {_default(parameter)} | {_cell(getattr(parameter, 'help', None))} |"
    yield ""


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_cell(parameter.metavar or parameter.name.upper())}`"
    return ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, False, ()) or callable(parameter.default):
        return ""
    return f"`{_cell(str(getattr(parameter.default, 'value', parameter.default)))}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("\n", " ").replace("|", "\\|")
