"""The comparison with other libraries: which points count as beaten, what is measured again, and what is skipped."""

import json
from pathlib import Path
from typing import Any

import pytest
from curves import best_within, bytes_stored, falls_short
from draw import frontier, with_table
from environments import NoEnvironmentError, python_for
from kept import Kept
from points import POINTS


def point(
    rival: str, lds: float, size: float, seconds: float, *, busy: float = 1.0, name: str = "it"
) -> dict[str, Any]:
    return {
        "rival": rival,
        "name": name,
        "lds": lds,
        "bytes_per_document": size,
        "query_seconds_1": seconds * busy,
        "plain_pass_seconds_1": 0.01 * busy,
    }


def test_a_rival_is_beaten_by_more_accuracy_for_no_more_bytes_and_no_more_time() -> None:
    ours = [point("headwater", 0.6, 500, 0.02), point("headwater", 0.7, 5000, 0.03)]
    assert falls_short([*ours, point("logix", 0.59, 500, 0.02), point("dattri", 0.69, 9000, 0.04)]) == []


def test_each_way_of_not_being_beaten_is_said_with_figures() -> None:
    ours = [point("headwater", 0.6, 500, 0.02)]
    (smaller,) = falls_short([*ours, point("logix", 0.5, 400, 0.02)])
    assert smaller == "logix it: LDS 0.5 at 400.0 bytes a document; Headwater has nothing"
    (faster,) = falls_short([*ours, point("logix", 0.5, 500, 0.01)])
    assert "at 1.0 plain passes a query" in faster
    assert len(falls_short([*ours, point("logix", 0.6, 500, 0.02)])) == 2  # as good is not better


def test_a_busy_machine_does_not_make_a_rival_look_slower() -> None:
    ours = [point("headwater", 0.6, 500, 0.02)]
    busy = point("logix", 0.5, 500, 0.01, busy=8.0)
    assert len(falls_short([*ours, busy])) == 1


def test_what_stores_nothing_is_compared_with_its_like() -> None:
    again = point("headwater", 0.8, 0, 2.0)
    (sentence,) = falls_short([again, point("logix", 0.5, 400, 3.0)])
    assert "0.5 at 400.0 bytes a document; Headwater has nothing" in sentence
    assert falls_short([again, point("kronfluence", 0.7, 0, 3.0)]) == []


def test_baselines_are_headwaters_too_where_time_counts() -> None:
    ours, words = point("headwater", 0.6, 200, 0.02), point("baselines", 0.5, 300, 0.002, name="BM25")
    states = point("baselines", 0.1, 300, 0.001, name="hidden states")
    assert falls_short([ours, words, states]) == []
    assert len(falls_short([ours, words, states, point("logix", 0.4, 300, 0.001)])) == 1
    assert falls_short([ours, words, states, point("logix", 0.4, 300, 0.002)]) == []


def test_the_frontier_leaves_out_what_a_cheaper_point_matches() -> None:
    points = [point("logix", lds, size, 1) for lds, size in ((0.5, 10), (0.4, 20), (0.6, 30), (0.6, 40))]
    assert [bytes_stored(best) for best in frontier(points, bytes_stored)] == [10, 30]
    assert best_within(points, bytes_stored, 5) is None


def test_results_are_measured_again_when_what_they_depend_on_changes(tmp_path: Path) -> None:
    adapter, tokens = tmp_path / "dattri_adapter.py", tmp_path / "tokens.npz"
    adapter.write_text("one")
    tokens.write_bytes(b"one")
    kept, task = Kept(tmp_path), {"tokens": str(tokens), "settings": {"rank": 8}}
    first = kept.folder("dattri", adapter, task)
    assert kept.folder("dattri", adapter, task) == first
    assert kept.folder("dattri", adapter, task | {"settings": {"rank": 16}}) != first
    tokens.write_bytes(b"two")
    second = kept.folder("dattri", adapter, task)
    adapter.write_text("two")
    assert len({first, second, kept.folder("dattri", adapter, task)}) == 3


def test_a_quick_run_installs_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoEnvironmentError, match="run without --quick"):
        python_for("logix", tmp_path, install=False)
    assert list(tmp_path.iterdir()) == []


def test_every_rival_has_one_quick_point_or_is_too_slow_for_it() -> None:
    quick = {point.rival for point in POINTS if point.quick}
    assert {point.rival for point in POINTS} - quick == {"kronfluence"}
    settings = [(point.rival, json.dumps(point.settings, sort_keys=True)) for point in POINTS]
    assert len(settings) == len(set(settings)), "a point is measured twice"


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    page = "a\n<!-- points -->\nold\n<!-- end of points -->\nb"
    assert with_table(page, "points", "new") == "a\n<!-- points -->\nnew\n<!-- end of points -->\nb"
    with pytest.raises(ValueError, match="no place"):
        with_table("a", "points", "new")
