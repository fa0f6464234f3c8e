"""Every option and every command that a page names is there."""

import re

import pytest
import typer
from doc_blocks import PAGES, names_of

from headwater.cli import app as client
from headwater_indexer.cli import app as indexer
from headwater_server.cli import app as server

PROGRAMS = {
    "headwater": typer.main.get_command(client),
    "headwater-index": typer.main.get_command(indexer),
    "headwater-serve": typer.main.get_command(server),
}
ELSEWHERE = {
    "--help",
    "--served-model-name",
    "--device",
    "--port",
}  # and of vLLM and transformers, which pages name too


def commands():
    """Each command line's words before its options, with its options."""
    for program, command in PROGRAMS.items():
        for name, below in getattr(command, "commands", {"": command}).items():
            yield (
                f"{program} {name}".strip(),
                {o for parameter in below.params for o in parameter.opts if o.startswith("--")},
            )


OPTIONS = {option for _, options in commands() for option in options} | {
    option for command in PROGRAMS.values() for parameter in command.params for option in parameter.opts
}


def spans(page):
    """What stands between backquotes on a page, its blocks aside."""
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", prose)


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_options_exist(page):
    for span in spans(page):
        if span.split()[0] in PROGRAMS or span.startswith("--"):
            named = set(re.findall(r"--[a-z][a-z-]+", span))
            assert named <= OPTIONS | ELSEWHERE, f"{page.name}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=names_of(PAGES))
def test_commands_exist(page):
    known = {name for name, _ in commands()} | set(PROGRAMS)
    for span in spans(page):
        program, *rest = span.split()
        if program in PROGRAMS and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
            assert f"{program} {rest[0]}" in known or program == "headwater-serve", f"{page.name}: {span}"


def test_the_readme_names_what_matters():
    (readme,) = [page for page in PAGES if page.name == "README.md"]
    named = {word for span in spans(readme) for word in re.findall(r"--[a-z][a-z-]+", span)}
    assert {"--layers", "--bytes", "--rank", "--hessian", "--damping", "--factors"} <= named
