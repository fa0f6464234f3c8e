"""docs/index-format.md is enough to read an index: its own reader decodes what the package codes, of every kind."""

import ast
import re

import numpy as np
import pytest
from doc_blocks import ROOT, read_blocks

from headwater_indexer.codes.coder import Coder
from headwater_indexer.manifest import FORMAT, FORMAT_VERSION

PAGE = ROOT / "docs" / "index-format.md"
WIDTH = 700


@pytest.fixture(scope="module")
def reader():
    """The functions of the page, without what they are called on there; the page's test runs all of it."""
    code = [block.text for block in read_blocks(PAGE) if block.language == "python"]
    kept = [
        node
        for text in code
        for node in ast.parse(text).body
        if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef)
    ]
    names = {}
    exec(compile(ast.Module(kept, type_ignores=[]), PAGE.name, "exec"), names)  # noqa: S102  the page's own code
    return names


def test_the_page_tells_the_format_that_is_written():
    assert re.search(rf"It is format `{FORMAT}` {FORMAT_VERSION};", PAGE.read_text("utf-8"))


@pytest.mark.parametrize(
    ("columns", "code_bytes"),
    [(700, None), (651, 651), (651, 326), (700, 350), (700, 300), (651, 100), (651, 11), (60, 2)],
)
def test_every_kind_of_codes_is_decoded(reader, tmp_path, columns, code_bytes):
    coder = Coder.make(width=WIDTH, columns=columns, code_bytes=code_bytes, seed=3)
    coder.save(tmp_path / "codes.safetensors")
    rows = np.random.default_rng(0).standard_t(10, (20, WIDTH)).astype(np.float32)
    records = coder.encode(rows)
    found = reader["decoded"](records, reader["safetensors"](tmp_path / "codes.safetensors"), WIDTH)
    assert found.any(axis=1).all()
    assert np.allclose(found, coder.decode(records), rtol=1e-5, atol=1e-6)
