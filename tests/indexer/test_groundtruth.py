"""Ground truths made by retraining, killed and resumed, by our own loop and by a script; and evaluations by them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from headwater_indexer import cli
from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.corpus import Document, read_documents
from headwater_indexer.errors import DataError, HeadwaterError
from headwater_indexer.evaluation.groundtruth import make_ground_truth
from headwater_indexer.evaluation.journal import TruthOptions
from headwater_indexer.evaluation.lds import lds
from headwater_indexer.evaluation.retraining import query_windows, write_documents
from headwater_indexer.evaluation.training import TrainingOptions, summed_losses, train
from headwater_indexer.evaluation.truth import GroundTruth
from headwater_indexer.scores import read_queries
from headwater_indexer.windows import Encoder

SMALL = TruthOptions(subsets=3, seeds=2, held_out=3, quotes=3)
SHORT = TrainingOptions(epochs=1, learning_rate=3e-3)
WORDS = ["--subsets", 3, "--seeds", 2, "--held-out", 3, "--quotes", 3, "--epochs", 1, "--learning-rate", 0.003]
Run = Callable[..., tuple[int, str, str]]

# As a user would write it. Importing torch takes seconds, so it runs with the slow tests.
TRAINING = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer

base, given, made = map(Path, sys.argv[1:])
torch.set_num_threads(1)
torch.manual_seed(json.loads((given / "training.json").read_text())["seed"])
texts = [json.loads(line)["text"] for line in (given / "documents.jsonl").open()]
model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
step = torch.optim.SGD(model.eval().parameters(), lr=0.1)
for text in texts[:6]:
    ids = torch.tensor([tokenizer(text)["input_ids"][:64]])
    step.zero_grad()
    model(ids, labels=ids).loss.backward()
    step.step()
model.save_pretrained(made)
tokenizer.save_pretrained(made)
"""
# The same contract without torch: weights that depend on the documents and the seed.
NUDGING = """
import json, shutil, sys
from pathlib import Path
from safetensors.numpy import load_file, save_file

base, given, made = map(Path, sys.argv[1:])
assert not list(made.iterdir())
shutil.copytree(base, made, dirs_exist_ok=True)
seed = json.loads((given / "training.json").read_text())["seed"]
texts = [json.loads(line)["text"] for line in (given / "documents.jsonl").open()]
weights = load_file(base / "model.safetensors")
weights["transformer.wte.weight"] *= 1 + 0.001 * seed + 0.00001 * sum(map(len, texts))
save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
"""


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


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """40 of the documents."""
    path = tmp_path_factory.mktemp("small") / "corpus.jsonl"
    path.write_text("".join(corpus_file.read_text().splitlines(keepends=True)[:40]))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, small_corpus: Path) -> Path:
    """A finished ground truth."""
    folder = tmp_path_factory.mktemp("truth") / "t"
    make_ground_truth(str(checkpoint_folder), str(small_corpus), folder, SMALL, SHORT, device="cpu")
    return folder


def test_a_truth_is_what_its_parts_say(made: Path, checkpoint_folder: Path, small_corpus: Path) -> None:
    assert sorted(file.name for file in made.iterdir()) == [
        *("base", "groundtruth.json", "lds.npz", "model", "queries.jsonl", "train.jsonl"),
    ]
    truth = GroundTruth.load(made)
    documents, queries = list(read_documents(str(truth.documents))), read_queries(truth.queries)
    assert (truth.masks.shape, truth.seed_losses.shape) == ((3, 37), (3, 2, 6))
    assert truth.masks.sum(axis=1).tolist() == [18, 18, 18]
    ids = {document.id for document in read_documents(str(small_corpus))}
    assert {document.id for document in documents} < ids
    np.testing.assert_allclose(truth.losses, truth.seed_losses.mean(axis=1), rtol=1e-6)
    encoder = Encoder(load_checkpoint(str(made / "model"), device="cpu").tokenizer, 64)
    windows = query_windows(encoder, queries)

    def losses_of(folder: Path, mask: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
        model = AutoModelForCausalLM.from_pretrained(folder)
        if mask is not None:
            kept = [d for d, wanted in zip(documents, mask, strict=True) if wanted]
            train(model, [w for d in kept for w in encoder.document(d, long="truncate")], SHORT, seed=seed)
        return summed_losses(model.eval(), windows)

    with np.load(made / "lds.npz") as arrays:
        np.testing.assert_allclose(losses_of(made / "model"), arrays["full_losses"], rtol=1e-4)
    # The last training of all: subset 2, its second seed, counted from 1 behind the full model's 0.
    np.testing.assert_allclose(losses_of(made / "base", truth.masks[2], 6), truth.seed_losses[2, 1], rtol=1e-4)
    assert losses_of(made / "base").sum() > truth.losses.mean(axis=0).sum()


def test_a_killed_making_goes_on_and_gives_the_same(
    checkpoint_folder: Path, small_corpus: Path, made: Path, tmp_path: Path, run: Run
) -> None:
    words = ["groundtruth", "--model", checkpoint_folder, "--documents", small_corpus, "--out", tmp_path / "t"]
    words += [*WORDS, "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "headwater_indexer.cli", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "t" / "trainings").glob("*.npy"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "t" / "trainings").glob("*.npy")}
    assert 2 <= len(kept) < 7
    with pytest.raises(DataError, match="still being made"):
        GroundTruth.load(tmp_path / "t")
    code, _, err = run(*words, "--seed", 1)
    assert (code, "of other options" in err) == (78, True)
    assert kept.items() <= {f.name: f.stat().st_mtime_ns for f in (tmp_path / "t" / "trainings").iterdir()}.items()
    assert run(*words)[0] == 0
    ours, theirs = GroundTruth.load(tmp_path / "t"), GroundTruth.load(made)
    np.testing.assert_array_equal(ours.masks, theirs.masks)
    np.testing.assert_allclose(ours.seed_losses, theirs.seed_losses, rtol=1e-5)
    stamp = (tmp_path / "t" / "lds.npz").stat().st_mtime_ns
    code, _, err = run(*words)
    assert (code, "already made" in err) == (0, True)
    assert (tmp_path / "t" / "lds.npz").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("text", [NUDGING, pytest.param(TRAINING, marks=pytest.mark.slow)], ids=["nudging", "training"])
def test_a_script_trains_instead(checkpoint_folder: Path, small_corpus: Path, tmp_path: Path, text: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(text)
    options = TruthOptions(subsets=2, seeds=1, held_out=2, quotes=1)
    command = f"{sys.executable} {script} {checkpoint_folder}"
    model, corpus = str(checkpoint_folder), str(small_corpus)
    truth = make_ground_truth(model, corpus, tmp_path / "t", options, train_script=command, device="cpu")
    windows = query_windows(Encoder(load_checkpoint(model, device="cpu").tokenizer, 64), read_queries(truth.queries))
    given, again = tmp_path / "given", tmp_path / "again"
    given.mkdir()
    again.mkdir()
    documents = list(read_documents(str(truth.documents)))
    write_documents(given / "documents.jsonl", [documents[i] for i in np.flatnonzero(truth.masks[1])])
    (given / "training.json").write_text('{"seed": 2}')
    subprocess.run([sys.executable, script, checkpoint_folder, given, again], check=True, capture_output=True)
    expected = summed_losses(AutoModelForCausalLM.from_pretrained(again).eval(), windows)
    np.testing.assert_allclose(truth.losses[1], expected, rtol=1e-4)
    assert (tmp_path / "t" / "model" / "model.safetensors").exists()
    script.write_text("import sys; sys.exit('no more disk')")
    with pytest.raises(HeadwaterError, match=r"ended with 1: no more disk"):
        make_ground_truth(model, corpus, tmp_path / "other", options, train_script=command, device="cpu")
    with pytest.raises(HeadwaterError, match="of other options"):  # an edited script
        make_ground_truth(model, corpus, tmp_path / "t", options, train_script=command, device="cpu")


def test_documents_written_for_a_script_are_read_back(tmp_path: Path) -> None:
    documents = [
        Document(id="a", text="the river\u2028 \n", source="s", metadata={"n": 1}),
        Document(id="b", text=" an answer", source=None, metadata={"n": None}, prompt="a question"),
    ]
    write_documents(tmp_path / "d.jsonl", documents)
    assert list(read_documents(str(tmp_path / "d.jsonl"))) == documents


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--subsets", 1], 2, "--subsets 1: it must be at least 2"),
        (["--held-out", 0, "--quotes", 0], 2, "no queries: give --queries"),
        (["--held-out", 39], 2, "too few for --held-out 39"),
        (["--learning-rate", 0], 2, "--learning-rate 0.0: it must be above 0"),
        (["--max-length", 999, "--held-out", 2, "--quotes", 2], 78, "has 64 positions"),
        (["--train-script", "/no/such/command", "--held-out", 2, "--quotes", 2], 78, "cannot be run (No such file"),
        (["--text-field", "body"], 65, "no field 'body'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    run: Run, checkpoint_folder: Path, small_corpus: Path, tmp_path: Path, words: list[object], code: int, message: str
) -> None:
    given = ("groundtruth", "--model", checkpoint_folder, "--documents", small_corpus, "--out", tmp_path / "t")
    found, _, err = run(*given, *words)
    assert found == code, err
    assert message in err
    assert "Traceback" not in err


def test_a_truth_is_evaluated_by_every_measure(run: Run, made: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--truth", made, "--out", tmp_path / "e", "--rank", 4, "--device", "cpu", "--top-k", 3]
    words += ["--measures", "lds,tail-patch,qld,recall", "--qld-queries", 2, "--qld-seeds", 1]
    words += ["--methods", "influence,relatif,hybrid,bm25,hidden-states,random"]
    code, out, err = run(*words)
    assert code == 0, err
    found = json.loads(out)
    assert found == json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert list(found["figures"]) == ["lds", "recall@1", "recall@10", "recall@100", "mrr", "tail-patch", "qld"]
    for name, methods in found["figures"].items():
        assert list(methods) == ["influence", "relatif", "hybrid", "bm25", "hidden-states", "random"], name
        assert all(one["low"] <= one["mean"] <= one["high"] for one in methods.values())
    assert found["figures"]["recall@1"]["bm25"]["queries"] == 3  # those that quote
    assert found["figures"]["qld"]["bm25"]["queries"] == 2
    page = (tmp_path / "e" / "report.html").read_text()
    assert page.count("<svg") == 7
    again = ["evaluate", "--truth", made, "--out", tmp_path / "r", "--rank", 4, "--device", "cpu", "--measures", "lds"]
    code, out, err = run(*again, "--methods", "influence,rescored,refined", "--refine", 1)
    assert code == 0, err
    rescored = json.loads(out)["figures"]["lds"]
    assert list(rescored) == ["influence", "rescored", "refined"]
    assert rescored["rescored"]["mean"] != rescored["refined"]["mean"]
    truth, scores = GroundTruth.load(made), tmp_path / "s.npy"
    model = ["--model", made / "model", "--documents", truth.documents, "--queries", truth.queries]
    for method in ("influence", "hybrid", "bm25", "hidden-states"):
        assert run("scores", *model, "--rank", 4, "--out", scores, "--method", method, "--device", "cpu")[0] == 0
        np.testing.assert_allclose(
            found["figures"]["lds"][method]["values"],
            lds(truth.masks, truth.losses, np.load(scores)),
            atol=0.51,  # three halves: a rounding may swap two of them
        )
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "e").rglob("*.npy")}
    assert kept
    assert run(*words)[0] == 0  # nothing is trained or built again
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "e").rglob("*.npy")} == kept


def test_an_index_is_evaluated_without_a_truth(run: Run, made: Path, tmp_path: Path) -> None:
    model, documents = made / "model", made / "train.jsonl"
    index = tmp_path / "i"
    assert run("build", "--model", model, "--documents", documents, "--out", index, "--rank", 4)[0] == 0
    words = ["evaluate", "--index", index, "--out", tmp_path / "e", "--methods", "bm25,random"]
    code, out, err = run(*words, "--queries", made / "queries.jsonl")
    assert code == 0, err
    assert "lds" not in json.loads(out)["figures"]
    assert run(*words)[0] == 2
    for measure, message in (("lds", "needs --truth"), ("speed", "speed is not one of")):
        code, _, err = run(*words, "--queries", made / "queries.jsonl", "--measures", measure)
        assert (code, message in err) == (2, True), err
    other = tmp_path / "q.jsonl"
    other.write_text('{"id": "1", "prompt": "the river", "response": " feeds"}\n')
    code, _, err = run(*words, "--truth", made, "--queries", other)
    assert (code, "37 documents and 6 queries" in err) == (65, True), err
    code, _, err = run(*words, "--queries", other, "--measures", "recall")
    assert (code, "source_id" in err) == (2, True), err


def test_a_damaged_truth_is_refused(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "lds.npz"
    path.write_bytes((made / "lds.npz").read_bytes()[:-200])
    with pytest.raises(DataError, match=r"lds\.npz cannot be read"):
        GroundTruth.load(tmp_path)
    with path.open("wb") as file:
        np.savez(file, masks=np.zeros((3, 4), bool), losses=np.zeros((2, 5)))
    with pytest.raises(DataError, match="do not fit"):
        GroundTruth.load(tmp_path)
