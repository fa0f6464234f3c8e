"""The build end to end: what is served equals its definition, and a killed build ends as an undisturbed one."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from headwater_indexer.build import build_index
from headwater_indexer.errors import ConfigurationError, CorpusError, IndexDamaged, ModelError, UsageError
from headwater_indexer.hessian import HessianKind
from headwater_indexer.index import Index, verify_index
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions
from headwater_indexer.progress import Silent, Step
from headwater_indexer.projection import ProjectionKind, Projections
from headwater_indexer.store.shards import ShardStore
from headwater_indexer.workspace import Workspace

OPTIONS = BuildOptions(rank=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path) -> Path:
    out = tmp_path_factory.mktemp("built") / "my.index"
    build_index(str(checkpoint_folder), str(corpus_file), out, OPTIONS)
    return out


@pytest.fixture(scope="module")
def index(folder: Path) -> Index:
    return Index.open(folder)


def full_gradients(model: PreTrainedModel, layers: tuple[str, ...], ids: list[int], first: int) -> list[torch.Tensor]:
    """[out_dim, in_dim] of each GPT-2 layer for one sequence, by autograd, in float64."""
    weights = [model.get_submodule(layer).get_parameter("weight").requires_grad_(True) for layer in layers]
    tokens = torch.tensor([ids])
    logits = model(input_ids=tokens).logits[0, first - 1 : -1]
    loss = functional.cross_entropy(logits, tokens[0, first:], reduction="sum")
    return [gradient.T for gradient in torch.autograd.grad(loss, weights)]


def slow_scores(
    checkpoint: Path, folder: Path, documents: list[str], pair: tuple[str, str], hessian: HessianKind, damping: float
) -> tuple[np.ndarray, np.ndarray]:
    """Influence and self-influence by the textbook: autograd, stored projections, dense inverse, float64."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    projections = Projections.load(Workspace(folder).projections)
    layers = tuple(projections)

    def projected(ids: list[int], first: int) -> list[torch.Tensor]:
        return [
            projections[name].output.double() @ gradient @ projections[name].input.double().T
            for name, gradient in zip(layers, full_gradients(model, layers, ids, first), strict=True)
        ]

    rows = []
    for text in documents:
        ids = tokenizer(text)["input_ids"]
        windows = [ids[start : start + 64] for start in range(0, max(1, len(ids) - 1), 63)]
        parts = [projected(window, 1) for window in windows if len(window) > 1]
        rows.append([torch.stack(layer).sum(0) for layer in zip(*parts, strict=True)])
    prompt, response = tokenizer(pair[0])["input_ids"], tokenizer(pair[1])["input_ids"]
    query = projected(prompt + response, len(prompt))
    influence, own = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.float64)
    for number in range(len(layers)):
        layer = torch.stack([row[number] for row in rows])  # documents, rank_out, rank_in
        flat = layer.flatten(1)
        if hessian == "raw":
            dense = flat.T @ flat / len(flat)
        else:
            output = torch.linalg.eigh(torch.einsum("noi,npi->op", layer, layer)).eigenvectors
            into = torch.linalg.eigh(torch.einsum("noi,noj->ij", layer, layer)).eigenvectors
            basis = torch.kron(output, into)
            dense = basis @ torch.diag((flat @ basis).square().mean(0)) @ basis.T
        damped = dense + damping * dense.trace() / len(dense) * torch.eye(len(dense))
        solved = torch.linalg.solve(damped, flat.T)  # columns, documents
        influence += query[number].flatten() @ solved
        own += (flat.T * solved).sum(0)
    return influence.numpy(), own.numpy()


@pytest.mark.parametrize(
    ("projection", "hessian"), [("whitened", "ekfac"), ("random", "raw"), ("pca", "ekfac"), ("random", "ekfac")]
)
def test_served_scores_are_their_definition(
    projection: ProjectionKind,
    hessian: HessianKind,
    checkpoint_folder: Path,
    corpus_file: Path,
    tmp_path: Path,
) -> None:
    options = BuildOptions(rank=6, projection=projection, hessian=hessian)
    build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "index", options)
    index = Index.open(tmp_path / "index")
    texts = [json.loads(line)["text"] for line in corpus_file.read_text().splitlines()]
    pair = ("the river feeds", " the lake 3 and the mill crosses the stone")
    influence, own = slow_scores(checkpoint_folder, tmp_path / "index", texts, pair, hessian, options.damping)
    rows = index.rows([index.encode(*pair)])
    for score, expected in (("influence", influence), ("relatif", influence / np.sqrt(own))):
        (hits,) = index.search(rows, top_k=len(texts), score=score)
        found = np.empty(len(texts))
        found[[hit.ordinal for hit in hits]] = [hit.score for hit in hits]
        assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-4
        assert np.argmax(found) == np.argmax(expected)


def test_a_document_that_asks_for_itself_comes_first(index: Index) -> None:
    documents = index.documents.by_ordinal(list(range(100)))
    short = [(n, d) for n, d in enumerate(documents) if len(index.encode_truncated("", d.text).input_ids) < 64]
    rows = index.rows([index.encode("", document.text) for _, document in short])
    relatif = index.search(rows, top_k=1, score="relatif")
    cosine = index.search(rows, top_k=1, score="cosine")
    assert len(short) > 50
    first = [hits[0].ordinal == ordinal for (ordinal, _), hits in zip(short, relatif, strict=True)]
    assert np.mean(first) >= 0.99
    assert all(abs(hits[0].score - 1) < 1e-3 for hits in cosine)


def test_a_long_document_scores_as_the_sum_of_its_windows(index: Index, folder: Path) -> None:
    ordinal, document = next(
        (n, d)
        for n, d in enumerate(index.documents.by_ordinal(list(range(len(index.documents)))))
        if len(index.encode_truncated("", d.text).input_ids) == 64
    )
    windows = index._encoder.document(document)
    assert len(windows) > 1
    pairs = [index.encode("", document.text[:20])]
    from headwater_indexer.windows import Pair

    parts = [Pair(input_ids=tuple(w.input_ids.tolist()), prompt_tokens=0, response_tokens=0) for w in windows]
    query = index.rows(pairs)
    influence = index.influences(query)[0, ordinal]
    summed = (query @ index.rows(parts).T).sum()
    assert influence == pytest.approx(summed, rel=1e-4)


def test_a_document_of_one_token_is_counted_and_not_found(checkpoint_folder: Path, tmp_path: Path) -> None:
    texts = ["the river feeds the lake", "a", "the mill turns the stone", "the bank follows the stream"]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(texts)))
    manifest = build_index(str(checkpoint_folder), str(corpus), tmp_path / "index", OPTIONS)
    assert (manifest.documents, manifest.documents_without_gradient) == (4, 1)
    index = Index.open(tmp_path / "index")
    (hits,) = index.search(index.rows([index.encode("", texts[0])]), top_k=4)
    assert hits[0].ordinal == 0
    assert next(hit.score for hit in hits if hit.ordinal == 1) == 0


def test_the_same_inputs_build_once(folder: Path, checkpoint_folder: Path, corpus_file: Path) -> None:
    before = (folder / "manifest.json").stat().st_mtime_ns
    again = build_index(str(checkpoint_folder), str(corpus_file), folder, OPTIONS)
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    assert again == Manifest.read(folder)


def test_another_index_is_not_overwritten_unasked(folder: Path, checkpoint_folder: Path, corpus_file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds an index of other options.*--overwrite"):
        build_index(str(checkpoint_folder), str(corpus_file), folder, BuildOptions(rank=5))
    assert Manifest.read(folder).projection.rank == 6


def test_an_index_is_served_until_the_one_that_replaces_it_is_whole(
    folder: Path, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path
) -> None:
    """And nothing of the old one is left beside it; kills are in test_crashes."""
    out = shutil.copytree(folder, tmp_path / "index")
    (out / "notes.txt").write_text("mine")
    seen: list[int] = []

    class Looking(Silent):
        def step(self, name: str, total: int | None, unit: str) -> Step:
            seen.append(verify_index(out).projection.rank)
            return super().step(name, total, unit)

    other = BuildOptions(rank=5, bits=4)
    build_index(str(checkpoint_folder), str(corpus_file), out, other, overwrite=True, progress=Looking())
    assert len(seen) > 3
    assert set(seen) == {6}
    assert verify_index(out).projection.rank == 5
    assert sorted(file.name for file in out.iterdir()) == sorted(
        [*{Path(file.path).parts[0] for file in Manifest.read(out).files}, "manifest.json", "notes.txt"]
    )


def test_somebodys_files_are_left_alone(tmp_path: Path, checkpoint_folder: Path, corpus_file: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    for overwrite in (False, True):
        with pytest.raises(ConfigurationError, match="holds other files"):
            build_index(str(checkpoint_folder), str(corpus_file), tmp_path, OPTIONS, overwrite=overwrite)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_build_that_was_killed_as_it_began_begins_again(
    tmp_path: Path, checkpoint_folder: Path, corpus_file: Path
) -> None:
    (tmp_path / "build.json.partial").write_text('{"inputs')
    assert build_index(str(checkpoint_folder), str(corpus_file), tmp_path, OPTIONS).documents == 120
    assert not (tmp_path / "build.json.partial").exists()


KEPT = ["documents.sqlite", "projections.safetensors", "whitener.safetensors", "search.faiss", "norms.safetensors"]


@pytest.mark.parametrize("name", [*KEPT, "rows/rows-00000.h5", "rows/rows-manifest.json"])
def test_an_altered_file_is_refused_by_name(name: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(IndexDamaged, match=rf"{name} is altered"):
        Index.open(copy)
    (copy / name).write_bytes(data[:-1])
    with pytest.raises(IndexDamaged, match=rf"{name} has \d+ bytes and should have"):
        Index.open(copy)
    (copy / name).unlink()
    with pytest.raises(IndexDamaged, match=rf"{name} is missing"):
        Index.open(copy)


def test_a_manifest_that_is_missing_or_of_another_format(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(IndexDamaged, match="has format headwater-index 99"):
        Index.open(copy)
    (copy / "manifest.json").write_text(json.dumps(manifest | {"width": "wide"}))
    with pytest.raises(IndexDamaged, match=r"altered or damaged \(at width\)"):
        Index.open(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(IndexDamaged, match=r"has no manifest.json: the build did not finish"):
        Index.open(copy)


def test_other_weights_are_refused(
    folder: Path, checkpoint_folder: Path, tmp_path: Path, make_model: Callable[..., PreTrainedModel]
) -> None:
    other = shutil.copytree(checkpoint_folder, tmp_path / "other")
    make_model("gpt2", seed=1).save_pretrained(other)
    with pytest.raises(IndexDamaged, match="was made with other weights"):
        Index.open(folder, model=str(other))


def test_no_pickle_in_the_folder(folder: Path) -> None:
    names = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert names == {".json", ".sqlite", ".safetensors", ".faiss", ".h5"}


def run_build(checkpoint: Path, corpus: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "headwater_indexer.cli", "build", "--model", str(checkpoint)]
    command += ["--documents", str(corpus), "--out", str(out), "--rank", "6"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env={"OMP_NUM_THREADS": "1", "PATH": ""})


@pytest.mark.slow
def test_a_build_killed_twenty_times_ends_as_an_undisturbed_one(
    checkpoint_folder: Path, large_corpus_file: Path, tmp_path: Path
) -> None:
    corpus = large_corpus_file
    start = time.monotonic()
    assert run_build(checkpoint_folder, corpus, tmp_path / "whole").wait() == 0
    undisturbed = time.monotonic() - start
    draw = random.Random(0)
    killed = captured = 0
    while killed < 20:
        process = run_build(checkpoint_folder, corpus, tmp_path / "killed")
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=draw.uniform(0.3, 1.0) * undisturbed)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if (tmp_path / "killed" / "manifest.json").exists():  # whole: begin again
            Index.open(tmp_path / "killed").close()
            shutil.rmtree(tmp_path / "killed")
            captured = 0
            continue
        gradients = Workspace(tmp_path / "killed").gradients
        if (gradients / "rows-manifest.json").exists():
            shards = len(ShardStore.open(gradients).manifest.shards)
            assert shards >= captured  # what was captured is never captured again
            captured = shards
        if (tmp_path / "killed").exists():
            with pytest.raises(IndexDamaged, match="did not finish"):
                Index.open(tmp_path / "killed")
    assert run_build(checkpoint_folder, corpus, tmp_path / "killed").wait() == 0
    for part in ("rows", ""):
        whole, resumed = tmp_path / "whole" / part, tmp_path / "killed" / part
        for file in sorted(whole.glob("*.h5")) + sorted(whole.glob("*.safetensors")) + sorted(whole.glob("*.faiss")):
            assert file.read_bytes() == (resumed / file.name).read_bytes(), file.name
    stores = [ShardStore.open(Workspace(tmp_path / name).rows) for name in ("whole", "killed")]
    assert all(np.array_equal(a, b) for a, b in zip(*stores, strict=True))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": "nothing"}, ModelError, "--layers 'nothing' matches no linear layer"),
        ({"max_length": 65}, UsageError, "has 64 positions"),
        ({"dtype": "int3"}, ConfigurationError, "--dtype int3"),
    ],
)
def test_options_that_cannot_be(
    options: dict[str, object],
    error: type[Exception],
    message: str,
    checkpoint_folder: Path,
    corpus_file: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "i", BuildOptions(**options))  # type: ignore[arg-type]


def test_a_model_without_tokenizer_is_refused(checkpoint_folder: Path, corpus_file: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(checkpoint_folder / name, bare)
    with pytest.raises(ModelError, match=r"has no tokenizer.*save_pretrained"):
        build_index(str(bare), str(corpus_file), tmp_path / "i", OPTIONS)


def test_a_broken_corpus_leaves_nothing_that_looks_whole(checkpoint_folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"id": "a", "text": "the river"}\n{"id": "b", "text": \n')
    with pytest.raises(CorpusError, match=r"c\.jsonl:2"):
        build_index(str(checkpoint_folder), str(corpus), tmp_path / "i", OPTIONS)
    with pytest.raises(IndexDamaged, match="the build did not finish"):
        Index.open(tmp_path / "i")


@pytest.mark.parametrize(
    "kilobytes", [pytest.param(20, marks=pytest.mark.slow), 150, pytest.param(260, marks=pytest.mark.slow)]
)
def test_a_file_that_cannot_grow_ends_cleanly_and_resumes(
    kilobytes: int, checkpoint_folder: Path, corpus_file: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "headwater_indexer.cli", "build", "--model", str(checkpoint_folder)]
    command += ["--documents", str(corpus_file), "--out", str(tmp_path / "i"), "--rank", "12"]
    limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", *command]
    stopped = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert stopped.returncode == 78, stopped.stderr
    assert "What was finished stays; the same command resumes." in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert len(Index.open(tmp_path / "i").documents) == 120
