"""A step of the demo is done once, again when its inputs change, and never taken for done when it failed."""

import sys
from pathlib import Path

import pytest
from steps import OUT, Step, StepError, run

WRITE = "import sys, uuid; open(sys.argv[1], 'w').write(sys.argv[2] + uuid.uuid4().hex)"


def step(word: str, *sources: Path) -> Step:
    return Step(name="note", ending=".txt", command=[sys.executable, "-c", WRITE, OUT, word], sources=sources)


def test_an_unchanged_step_is_reused(tmp_path: Path) -> None:
    first = run(step("a"), tmp_path)
    written = first.read_text()
    assert run(step("a"), tmp_path) == first
    assert first.read_text() == written
    assert first.suffix == ".txt"


def test_other_options_or_code_make_it_again_and_the_old_one_goes(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("x = 1")
    cache = tmp_path / "cache"
    first = run(step("a", code), cache)
    second = run(step("b", code), cache)
    code.write_text("x = 2")
    third = run(step("b", code), cache)
    assert len({first, second, third}) == 3
    assert list(cache.iterdir()) == [third]


def test_a_step_that_fails_leaves_nothing_and_passes_its_status_on(tmp_path: Path) -> None:
    fails = Step(name="note", command=[sys.executable, "-c", "import sys; open(sys.argv[1], 'w'); sys.exit(65)", OUT])
    with pytest.raises(StepError, match="`note` ended with status 65") as raised:
        run(fails, tmp_path)
    assert raised.value.status == 65
    assert not list(tmp_path.glob("note-*"))
