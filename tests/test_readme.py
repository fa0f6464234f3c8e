"""What the README names is there: files, fields of the SDK. Its blocks are run by docs/, which looks options up too."""

import re
from pathlib import Path

import headwater

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


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
