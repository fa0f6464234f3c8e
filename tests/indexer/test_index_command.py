"""The command as a person meets it: exit codes, one sentence for each mistake, no traceback."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

from headwater_indexer import cli
from headwater_indexer.manifest import Manifest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `headwater-index` with words; returns exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headwater-index", *map(str, words)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        assert isinstance(code, int)
        return code, said.out, said.err

    return command


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


GOOD = '{"id": "a", "text": "the river feeds the lake"}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((GOOD, '{"id": "b", "text": '), r"corpus.jsonl:2"),
        ((GOOD, '{"id": "b", "body": "x"}'), r"corpus.jsonl:2.*text"),
        ((GOOD, GOOD), r"'a'"),
        ((GOOD, '{"id": "b", "text": ""}'), r"corpus.jsonl:2.*empty"),
        ((GOOD, b'{"id": "b", "text": "\xff"}'), r"corpus.jsonl:2.*UTF-8"),
    ],
)
def test_a_broken_corpus_names_its_line(
    run: Run, checkpoint_folder: Path, tmp_path: Path, lines: tuple[str | bytes, ...], message: str
) -> None:
    corpus = write(tmp_path / "corpus.jsonl", *lines)
    code, out, err = run("build", "--model", checkpoint_folder, "--documents", corpus, "--out", tmp_path / "i")
    assert code == 65
    assert not out
    last = err.strip().splitlines()[-1]
    assert last.startswith("headwater-index: ")
    assert re.search(message, last), last
    assert "Traceback" not in err
    assert not (tmp_path / "i" / "manifest.json").exists()


def test_a_mended_corpus_builds_into_the_same_folder(run: Run, checkpoint_folder: Path, tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus.jsonl", GOOD, "{")
    build = ("build", "--model", checkpoint_folder, "--documents", corpus, "--out", tmp_path / "i", "--rank", "4")
    assert run(*build)[0] == 65
    write(corpus, GOOD, '{"id": "b", "text": "the mill turns"}')
    code, _, err = run(*build)
    assert code == 78
    assert "--overwrite" in err
    assert run(*build, "--overwrite")[0] == 0


def test_a_rank_above_the_width_is_clipped_and_said(
    run: Run, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path
) -> None:
    words = ("--model", checkpoint_folder, "--documents", corpus_file, "--out", tmp_path / "i", "--rank", "40")
    code, _, err = run("build", *words)
    assert code == 0
    assert "rank 40 is above the width of 4 of 4 layers (the narrowest has 32): clipped to the width there" in err
    assert Manifest.read(tmp_path / "i").width == 4 * 32 * 40  # the other side of each has 128


def test_what_is_said_before_and_after(run: Run, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path) -> None:
    words = ("--model", checkpoint_folder, "--documents", corpus_file, "--out", tmp_path / "i", "--rank", "6")
    code, out, err = run("build", *words)
    assert (code, out) == (0, "")
    assert "120 documents in" in err
    assert "144 columns of 32 bits (rank 6): 1.2 KB a document" in err
    assert "Serve it: headwater-serve" in err
    code, out, _ = run("info", tmp_path / "i")
    assert (code, json.loads(out)["documents"]) == (0, 120)
    assert run("verify", tmp_path / "i")[0] == 0
    (tmp_path / "i" / "search.faiss").write_bytes(b"")
    code, _, err = run("verify", tmp_path / "i")
    assert code == 65
    assert "search.faiss has 0 bytes and should have" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--rank", "0"], 2, "--rank 0: it must be at least 1"),
        (["--damping", "-1"], 2, "--damping -1.0: it must be above 0"),
        (["--layers", "nothing"], 78, "--layers 'nothing' matches no linear layer"),
        (["--device", "warp"], 78, "--device warp"),
        (["--ranks", "3"], 2, "No such option"),
        (["--hessian", "full"], 2, "'full' is not one of"),
        (["--id-field", "nr"], 65, "nr"),
        (["--documents", "/nowhere.jsonl"], 65, "/nowhere.jsonl"),
        (["--model", "/nowhere"], 78, "/nowhere"),
    ],
)
def test_mistakes_in_options(
    run: Run, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    given = {"--model": checkpoint_folder, "--documents": corpus_file, "--out": tmp_path / "i"}
    command = [word for pair in given.items() for word in pair if pair[0] not in words]
    found, _, err = run("build", *command, *words)
    assert found == code, err
    assert message in err
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_written(run: Run, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path) -> None:
    out = write(tmp_path / "file", "in the way") / "index"
    code, _, err = run("build", "--model", checkpoint_folder, "--documents", corpus_file, "--out", out)
    assert code == 78
    assert "a part of the path is a file: choose another folder" in err


def test_two_builds_in_one_folder(checkpoint_folder: Path, corpus_file: Path, tmp_path: Path, run: Run) -> None:
    lock = (
        "import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('locked', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", lock, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        code, _, err = run("build", "--model", checkpoint_folder, "--documents", corpus_file, "--out", tmp_path)
        other.communicate(b"\n")
    assert code == 78
    assert "another build or change is at work in" in err


def test_scores_are_influence_and_say_what_is_wrong_with_queries(
    run: Run, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path
) -> None:
    queries = write(
        tmp_path / "q.jsonl",
        '{"id": "1", "prompt": "the river", "response": " feeds the lake", "source_id": null}',
        '{"id": "2", "prompt": "", "response": "the mill turns the stone"}',
    )
    words = ("--model", checkpoint_folder, "--documents", corpus_file, "--queries", queries, "--rank", "6")
    assert run("scores", *words, "--out", tmp_path / "scores.npy")[0] == 0
    matrix = np.load(tmp_path / "scores.npy")
    assert (matrix.shape, matrix.dtype) == ((2, 120), np.float32)
    assert np.isfinite(matrix).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.jsonl", "scores.npy"]
    write(queries, '{"id": "1", "prompt": "x"}')
    code, _, err = run("scores", *words, "--out", tmp_path / "scores.npy")
    assert code == 65
    assert "q.jsonl:1: a query is" in err


def test_scores_are_written_from_candidates_that_are_scored_again(
    run: Run, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path
) -> None:
    queries = write(tmp_path / "q.jsonl", '{"id": "1", "prompt": "the river", "response": " feeds the lake"}')
    words = ("--model", checkpoint_folder, "--documents", corpus_file, "--queries", queries, "--rank", "6")
    found = {}
    for name, more in {"rows": (), "all": ("--rescore", "all"), "some": ("--rescore", "5"), "steps": (
        "--rescore", "all", "--refine", "1",
    )}.items():  # fmt: skip
        assert run("scores", *words, *more, "--out", tmp_path / f"{name}.npy")[0] == 0
        found[name] = np.load(tmp_path / f"{name}.npy")[0]
    best = np.argsort(-found["rows"])[:5]
    np.testing.assert_allclose(found["some"][best], found["all"][best], rtol=1e-3)
    others = np.setdiff1d(np.arange(120), best)
    ratios = found["some"][others] / found["rows"][others]
    np.testing.assert_allclose(ratios, np.median(ratios), rtol=1e-3)
    assert not np.allclose(np.corrcoef(found["steps"], found["all"])[0, 1], 1, atol=1e-4)
    for more, code, message in (
        (("--rescore", "none"), 2, "--rescore none: give all, or how many"),
        (("--refine", "2"), 2, "--refine 2 needs --rescore all"),
        (("--rescore", "all", "--method", "bm25"), 2, "--method bm25 has none"),
    ):
        found_code, _, err = run("scores", *words, *more, "--out", tmp_path / "no.npy")
        assert (found_code, message in err) == (code, True), err


def test_explain_prints_the_tokens_of_named_and_of_found_documents(
    run: Run, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "i"
    words = ("--model", checkpoint_folder, "--documents", corpus_file, "--out", folder, "--rank", "6", "--factors")
    assert run("build", *words)[0] == 0
    asked = ("explain", folder, "--prompt", "the river", "--response", " feeds the lake")
    code, out, err = run(*asked, "--document", "doc-007", "--document", "doc-002")
    assert code == 0, err
    named = json.loads(out)
    assert [one["document_id"] for one in named] == ["doc-007", "doc-002"]
    for one in named:
        assert "".join(token["text"] for token in one["response"]) == " feeds the lake"
        for side in ("document", "response"):
            assert sum(token["influence"] for token in one[side]) == pytest.approx(one["score"], rel=1e-3)
    code, out, _ = run(*asked, "--top-k", "2", "--refine", "1")
    assert (code, len(json.loads(out))) == (0, 2)
    for more, status, message in (
        (("--document", "doc-999"), 2, "--document doc-999"),
        (("--prompt", "the river " * 99), 2, "tokens"),
    ):
        code, _, err = run(*asked, *more)
        assert (code, message in err, "Traceback" in err) == (status, True, False), err


def test_every_command_and_option_is_documented() -> None:
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None) or parameter.name == "help", (name, parameter.name)


def test_no_network_is_tried_for_a_folder(
    checkpoint_folder: Path, corpus_file: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    words = ("--model", checkpoint_folder, "--documents", corpus_file, "--out", tmp_path / "i", "--rank", "4")
    assert run("build", *words)[0] == 0
