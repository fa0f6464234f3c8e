"""What the README names is there: commands, options, files, fields of the SDK."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import headwater

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("command", ["headwater-index build", "headwater-serve", "headwater attribute"])
def test_options_exist(command: str) -> None:
    program, *rest = command.split()
    help_text = subprocess.run([COMMANDS / program, *rest, "--help"], capture_output=True, text=True, check=True).stdout
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines() if line.startswith(command)]
    assert lines
    for option in re.findall(r"--[a-z-]+", " ".join(lines)):
        assert option in help_text


def test_options_of_the_table_exist() -> None:
    help_text = subprocess.run(
        [COMMANDS / "headwater-index", "build", "--help"], capture_output=True, text=True, check=True
    ).stdout
    table = README.split("## Options that matter")[1].split("\n\n")[1]
    options = re.findall(r"`(--[a-z-]+)`", table)
    assert len(options) >= 7
    assert all(option in help_text for option in options)


def test_files_of_the_tree_exist() -> None:
    named = re.findall(r"^    ((?:  )*)([\w./-]+)  +\w", README.split("The tree")[1], flags=re.MULTILINE)
    assert len(named) > 30
    folders: list[str] = []
    for indent, name in named:
        depth = len(indent) // 2
        folders[depth:] = [name]
        assert (ROOT / "/".join(folders)).exists(), name


def test_the_example_parses_and_uses_what_the_sdk_has() -> None:
    (example,) = blocks("python")
    compile(example, "README.md", "exec")
    fields = headwater.AttributedDocument.model_fields
    assert set(re.findall(r"document\.(\w+)", example)) <= set(fields)


def test_the_picture_is_a_real_answer() -> None:
    picture = (ROOT / "docs" / "demo.svg").read_text()
    assert "pydoc_data.topics" in picture
    assert str(Path.home()) not in picture
