"""Figures of the README and of pages are those that are kept in benchmarks/results."""

import json
import re

import pytest
from doc_blocks import PAGES, ROOT

RESULTS = ROOT / "benchmarks" / "results"


def tables():
    """The kept result that each table is of, and its rows."""
    for page in PAGES:
        for name, table in re.findall(r"<!-- figures: (\S+) -->\n\n((?:\|.*\n)+)", page.read_text("utf-8")):
            for line in table.splitlines()[2:]:
                first, *_, last = [cell.strip() for cell in line.strip("|").split("|")]
                option = re.match(r"`([^`]+)`", first)
                yield pytest.param(name, option[1] if option else "", last, id=f"{page.name}: {first}")


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
    half_a_digit = 0.5 * 10 ** -len(figure.partition(".")[2])
    assert abs(kept(name, option) - float(figure)) <= half_a_digit + 1e-9


def test_the_readme_and_the_page_of_choices_have_figures():
    of_pages = {parameter.id.partition(":")[0] for parameter in tables()}
    assert {"README.md", "choosing.md"} <= of_pages


def test_what_is_said_of_the_page_was_measured():
    found = json.loads((RESULTS / "page.json").read_text())
    said = (ROOT / "docs" / "page.md").read_text("utf-8")
    slowest = max(visit["first_paint_ms"] for visit in found["visits"].values())
    assert f"first paint came after {slowest / 1000:.2f} s" in " ".join(said.split())
    assert found["falls_short"] == []
    for name, score in found["lighthouse"].items():
        assert f"{score} for {name.replace('-', ' ')}" in " ".join(said.split())


def test_the_plans_are_told_as_they_were_measured():
    found = json.loads((RESULTS / "index.json").read_text())["two_stage"]
    said = (ROOT / "docs" / "choosing.md").read_text("utf-8")
    rows = 4 * found["documents"] * found["columns"]
    scan, question = found["float32_scan_of_as_many_rows_ms"] / 1000, found["one_query_p50_ms"] / 1000
    assert f"| {scan:.2f} s | {rows / 1e9:.1f} GB |" in said
    assert f"{found['candidates']:,} candidates | {question:.2f} s | {found['resident_bytes'] / 1e9:.1f} GB |" in said
    assert f"| {found['recall_at_10']:.1%} | {found['recall_at_100']:.1%} |".replace("%", " %") in said


@pytest.mark.parametrize("picture", ["bytes-shakespeare.svg", "index.svg"])
def test_the_picture_is_the_one_that_is_kept(picture):
    shown = ROOT / "docs" / "images" / picture
    assert shown.read_bytes() == (RESULTS / picture).read_bytes(), f"cp benchmarks/results/{picture} docs/images/"


def test_what_lists_and_codes_find_is_told_as_it_was_measured():
    found = json.loads((RESULTS / "inverted_lists.json").read_text())
    said = (ROOT / "docs" / "scale.md").read_text("utf-8")
    for probed in ("8", "32"):
        one = found["by_lists_probed"][probed]
        told = f"| {one['share_of_rows']:.1%} | {one['found']:.1%} |".replace("%", " %")
        assert f"{probed} of {found['lists']} lists {told}" in said
    for name, codes, counts in (("PQ", found["product_codes"], [400]), ("signs", found["signs"], [80, 400])):
        for count in counts:
            told = f"| {count / found['documents']:.1%} | {codes['found'][str(count)]:.1%} |".replace("%", " %")
            assert re.search(rf"{name}.*{re.escape(told)}", said)
    assert found["falls_short"] == []
