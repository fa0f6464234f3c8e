"""How an index is searched: what is chosen, what it costs, that a budget of memory is kept, and what is measured."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headwater_indexer.build import build_index
from headwater_indexer.errors import ConfigurationError, UsageError
from headwater_indexer.index import Index
from headwater_indexer.manifest import Manifest
from headwater_indexer.measured_recall import recall
from headwater_indexer.memory import parse_size, size
from headwater_indexer.options import BuildOptions
from headwater_indexer.plan import AskedPlan, Plan, Rows, choose
from headwater_indexer.two_stage import TwoStageSearch

FEW = Rows(documents=5_000, width=12_288, record_bytes=2_048, plain=False)
MANY = Rows(documents=1_000_000, width=12_288, record_bytes=3_080, plain=False)
MANY_PLAIN = Rows(documents=1_000_000, width=12_288, record_bytes=0, plain=True)


def chosen(asked: AskedPlan, rows: Rows, memory: str | None = None, *, gpu: bool = False, signs: bool = True) -> Plan:
    return choose(asked, rows, memory=None if memory is None else parse_size(memory), gpu=gpu, signs=signs)


@pytest.mark.parametrize(
    ("rows", "memory", "gpu", "signs", "kind"),
    [
        (FEW, None, False, True, "exact"),
        (MANY, None, False, True, "two-stage"),
        (MANY, None, False, False, "exact"),  # an index without signs
        (MANY, "1GB", False, True, "exact"),  # its signs would take 1.9 GB, its codes stay on the disk
        (MANY_PLAIN, "64GB", False, True, "two-stage"),
        (MANY_PLAIN, "64GB", True, True, "exact"),
        (MANY_PLAIN, "8GB", True, True, "two-stage"),
    ],
)
def test_auto_takes_the_quicker_plan_that_fits(
    rows: Rows, memory: str | None, gpu: bool, signs: bool, kind: str
) -> None:
    assert chosen("auto", rows, memory, gpu=gpu, signs=signs).kind == kind


def test_auto_does_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater_indexer.plan.find_spec", lambda _: None)
    assert chosen("auto", MANY).kind == "exact"


def test_a_plan_says_its_sizes() -> None:
    said = str(chosen("two-stage", MANY))
    assert said.startswith("two-stage search: 12,288 signs of each document propose, rows decide; 1.9 GB of memory, ")
    assert "1.5 GB of disk" in said


def test_signs_take_no_more_than_the_row_itself() -> None:
    wide = Rows(documents=10, width=100_000, record_bytes=1_000, plain=False)
    assert wide.sign_columns == 8_000
    assert wide.sign_bytes == 1_008


@pytest.mark.parametrize(
    ("asked", "rows", "memory", "match"),
    [
        ("exact", MANY_PLAIN, "8GB", r"exact search of 1,000,000 documents needs 49\.5 GB .* --plan two-stage"),
        ("two-stage", MANY, "1GB", r"two-stage search .* needs 1\.9 GB and --memory leaves 1\.0 GB"),
        ("auto", MANY_PLAIN, "1GB", r"exact search needs 49\.5 GB and two-stage search 1\.9 GB: raise it"),
    ],
)
def test_a_budget_that_is_too_small_is_refused_with_the_sizes(
    asked: AskedPlan, rows: Rows, memory: str, match: str
) -> None:
    with pytest.raises(ConfigurationError, match=match):
        chosen(asked, rows, memory)


def test_two_stages_want_signs() -> None:
    with pytest.raises(ConfigurationError, match=r"no signs .* build it with --plan two-stage"):
        chosen("two-stage", FEW, signs=False)


@pytest.mark.parametrize(("text", "expected"), [("8GB", 8e9), ("1.5 gib", 1.5 * 2**30), ("300000", 3e5)])
def test_sizes_are_read(text: str, expected: float) -> None:
    assert parse_size(text) == expected
    assert size(8e9) == "8.0 GB"


@pytest.mark.parametrize("text", ["", "GB", "8 apples", "-1GB", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give a size such as 8GB"):
        parse_size(text)


def test_recall_counts_what_both_found() -> None:
    assert recall([[1, 2, 3], [4, 5]], [[3, 1, 9], [5, 4]], 3) == 4 / 5
    assert recall([[]], [[]], 10) == 1


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that this small corpus is really searched in two stages."""
    monkeypatch.setattr("headwater_indexer.measured_recall.FEWEST", 32)


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize("options", [{"bits": 4}, {}], ids=["codes", "plain"])
def test_a_build_measures_its_recall_and_finds_what_exact_search_finds(
    checkpoint_folder: Path, corpus_file: Path, tmp_path: Path, options: dict[str, int]
) -> None:
    built = BuildOptions(rank=6, plan="two-stage", **options)  # type: ignore[arg-type]
    manifest = build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "i", built)
    found = manifest.search
    assert (found.plan, found.queries, found.candidates) == ("two-stage", 32, found.candidates)
    assert found.candidates == 32
    assert found.recall_at_10 is not None
    assert 0.3 < found.recall_at_10 <= 1  # 11 candidates of 120
    quick = Index.open(tmp_path / "i", plan="two-stage")
    exact = Index.open(tmp_path / "i", plan="exact")
    try:
        rows = exact.rows(
            [exact.encode_truncated("", document.text) for document in exact.documents.by_ordinal([5, 77])]
        )
        assert isinstance(quick._search._parts[0], TwoStageSearch)
        both = [index.search(rows, top_k=1) for index in (quick, exact)]
        assert [[hit.ordinal for hit in hits] for hits in both[0]] == [[5], [77]]
        assert [[hit.ordinal for hit in hits] for hits in both[1]] == [[5], [77]]
        assert np.allclose(quick.norms, exact.norms, rtol=1e-6)
        assert np.allclose(
            quick.influences(rows), exact.influences(rows), atol=1e-3 * np.abs(exact.influences(rows)).max()
        )
    finally:
        quick.close()
        exact.close()


def test_a_build_of_few_documents_searches_exactly(checkpoint_folder: Path, corpus_file: Path, tmp_path: Path) -> None:
    manifest = build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "i", BuildOptions(rank=6, bits=4))
    assert manifest.search.plan == "exact"
    assert not (tmp_path / "i" / "signs").exists()
    with pytest.raises(ConfigurationError, match="build it with --plan two-stage"):
        Index.open(tmp_path / "i", plan="two-stage")


def test_documents_of_one_word_are_searched_without_a_measure(checkpoint_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "words.jsonl").write_text("".join(f'{{"text": "river{n}stone"}}\n' for n in range(40)))
    options = BuildOptions(rank=6, bits=4, plan="two-stage")
    found = build_index(str(checkpoint_folder), str(tmp_path / "words.jsonl"), tmp_path / "i", options).search
    assert (found.plan, found.queries, found.recall_at_10) == ("two-stage", 0, None)


def test_a_build_that_was_killed_between_signs_and_rows_goes_on(
    checkpoint_folder: Path, corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater_indexer.store.shards import ShardStore

    monkeypatch.setattr("headwater_indexer.gradients.SHARD_DOCUMENTS", (16, 16))
    options = BuildOptions(rank=6, bits=4, plan="two-stage")
    whole = build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "whole", options)
    append, calls = ShardStore.append, 0

    def killed(self: ShardStore, rows: np.ndarray) -> object:
        nonlocal calls
        calls += self.folder.name == "rows"
        if calls == 3:
            raise KeyboardInterrupt
        return append(self, rows)

    monkeypatch.setattr(ShardStore, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "i", options)
    monkeypatch.setattr(ShardStore, "append", append)
    resumed = build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "i", options)
    assert resumed.search == whole.search
    for name in ("rows", "signs"):
        ours, theirs = (ShardStore.open(tmp_path / folder / name) for folder in ("i", "whole"))
        assert np.array_equal(np.concatenate(list(ours)), np.concatenate(list(theirs)))


def peak_of(arguments: list[str]) -> tuple[int, str]:
    """Bytes that a child process of the command held at most, and what it said."""
    code = (
        "import resource, sys; from headwater_indexer.cli import main; sys.argv = ['headwater-index', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as done:\n    status = done.code\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(line for line in lines if line.startswith('VmHWM')).split()[1], status or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    kilobytes, status = run.stdout.split()[-2:]
    return int(kilobytes) * 1024, f"{status} {run.stderr}"


@pytest.mark.slow
def test_a_budget_of_memory_is_kept_by_a_build(checkpoint_folder: Path, corpus_file: Path, tmp_path: Path) -> None:
    build = ["build", "--model", str(checkpoint_folder), "--documents", str(corpus_file), "--rank", "6", "--bits", "4"]
    peak, said = peak_of([*build, "--out", str(tmp_path / "a"), "--memory", "1500MB", "--plan", "two-stage"])
    assert said.startswith("0 "), said
    assert "two-stage search: " in said
    assert said.index("two-stage search: ") < said.index("rows")  # before the work
    assert peak < 1.5e9
    assert Manifest.read(tmp_path / "a").search.plan == "two-stage"
    _, said = peak_of([*build, "--out", str(tmp_path / "b"), "--memory", "100MB"])
    assert said.startswith("78 ")
    assert "--memory 100.0 MB: the model and a first batch took" in said
