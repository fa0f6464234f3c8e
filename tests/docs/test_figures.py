"""The figures on docs/choosing.md are those that are kept in benchmarks/results."""

import json
import re

import pytest
from doc_blocks import ROOT

PAGE = (ROOT / "docs" / "choosing.md").read_text("utf-8")
RESULTS = ROOT / "benchmarks" / "results"


def tables():
    """The kept result that each table is of, and its rows."""
    for name, table in re.findall(r"<!-- figures: (\S+) -->\n\n((?:\|.*\n)+)", PAGE):
        for line in table.splitlines()[2:]:
            first, *_, last = [cell.strip() for cell in line.strip("|").split("|")]
            option = re.match(r"`([^`]+)`", first)
            yield pytest.param(name, option[1] if option else "", float(last), id=first)


def kept(name, option):
    """The LDS of an option, as it was measured."""
    result = json.loads((RESULTS / name).read_text())
    if "points" in result:
        for kind, points in result["points"].items():
            for point in points:
                fixed = kind.split(" --bits")[0] if "bits" in point else f"--bytes {point['bytes']}"
                if option == (f"{fixed} --bits {point['bits']}" if "bits" in point else fixed):
                    return point["lds"]
    results = result.get("results") or result.get("accuracy") or {}
    return next(found["lds"] for found in results.values() if found["options"] == option)


@pytest.mark.parametrize(("name", "option", "figure"), list(tables()))
def test_a_figure_is_the_one_that_was_measured(name, option, figure):
    assert abs(kept(name, option) - figure) <= 0.0005 + 1e-9


def test_the_picture_is_the_one_that_is_kept():
    assert (ROOT / "docs" / "images" / "bytes-shakespeare.svg").read_bytes() == (
        RESULTS / "bytes-shakespeare.svg"
    ).read_bytes(), "cp benchmarks/results/bytes-shakespeare.svg docs/images/"
