"""The notebook runs from top to bottom, and its check comes out as its last words say."""

import re

import nbformat
import pytest
from doc_blocks import ROOT
from nbclient import NotebookClient

FILE = ROOT / "examples" / "attribute_finetuned_model.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(FILE, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    assert len(code(notebook)) >= 7
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))


@pytest.mark.slow
def test_the_document_found_is_missed_when_it_is_left_out(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(
        out.get("text", "") for cell in code(notebook) for out in cell.outputs if out.get("name") == "stdout"
    )
    assert re.search(r"^1 \S+ paragraph-\d+ ", said, flags=re.MULTILINE), said
    losses = [
        float(found) for found in re.search(r"loss (\S+); .* found (\S+); .* another (\S+)$", said.strip()).groups()
    ]
    before, without_found, without_another = losses
    assert without_found > without_another + 5  # nats
    assert without_found > before + 5
