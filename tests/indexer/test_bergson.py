"""A store of bergson's becomes an index: its matrices are made again, and its gradients are served as ours would be.

The stores here are written by its format (2.5.1), with gradients by autograd. The numbers that the matrices are
compared with were made by bergson itself. A store that it made was tried too: of 60 documents that asked for themselves
all 60 came first.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from headwater_indexer.bergson.importing import import_bergson
from headwater_indexer.bergson.matrices import matrix
from headwater_indexer.bergson.store import BergsonStore
from headwater_indexer.errors import DataError, ModelError
from headwater_indexer.index import Index
from headwater_indexer.options import BuildOptions

RANK, LAYERS = 5, ("h.0.mlp.c_fc", "h.0.mlp.c_proj", "h.1.mlp.c_fc")
SETTINGS = {
    "projection_dim": RANK,
    "reshape_to_square": False,
    "projection_type": "rademacher",
    "projection_target": "per_module",
    "projection_scale": "jl",
    "include_bias": False,
    "projection_seed": None,
    "projection_version": 2,
}


def test_matrices_are_those_that_bergson_makes() -> None:
    signs = matrix("transformer.h.0.mlp.c_fc/left", 3, 200, kind="rademacher", scale="jl") * np.sqrt(3)
    first = [-1, -1, 1, 1, -1, 1, 1, 1, 1, 1, -1, -1, 1, -1, 1, -1, 1, -1, -1, 1]
    assert np.round(signs[2, 120:140]).astype(int).tolist() == first
    assert round(float(signs.sum())) == 26
    numbers = matrix("transformer.h.0.mlp.c_fc/right/seed7", 2, 6, kind="normal", scale="jl") * np.sqrt(2)
    made = [
        [2.302542209625244, -1.7236374616622925, -1.8026269674301147, -0.28566431999206543, 1.0464595, 1.5434266],
        [0.40605828166007996, 0.3941480815410614, 0.39033228158950806, 0.7949027419090271, 0.2355876, -0.2939287],
    ]
    np.testing.assert_allclose(numbers, made, rtol=1e-5)
    scaled = matrix("a/left", 4, 10, kind="normal", scale="row_norm")
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, rtol=1e-6)


def gradients(checkpoint: Path, texts: list[str]) -> np.ndarray:
    """[documents, columns]: L G R^T of each layer, of the loss summed over tokens, cut at 64 of them."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    weights = [model.transformer.get_submodule(name).weight for name in LAYERS]  # Conv1D: [in, out]
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:64]])
        loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum")
        row = []
        for name, found in zip(LAYERS, torch.autograd.grad(loss, weights), strict=True):
            left = matrix(f"{name}/left", RANK, found.shape[1], kind="rademacher", scale="jl")
            right = matrix(f"{name}/right", RANK, found.shape[0], kind="rademacher", scale="jl")
            row.append((left @ found.T.numpy() @ right.T).ravel())
        rows.append(np.concatenate(row))
    return np.array(rows, dtype=np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path) -> Path:
    """A folder with the store and the 30 documents that it is of."""
    folder = tmp_path_factory.mktemp("bergson")
    lines = corpus_file.read_text().splitlines(keepends=True)[:30]
    (folder / "corpus.jsonl").write_text("".join(lines))
    (folder / "store").mkdir()
    found = gradients(checkpoint_folder, [json.loads(line)["text"] for line in lines])
    (folder / "store" / "gradients.bin").write_bytes(found.tobytes())
    sizes = dict.fromkeys(LAYERS, RANK * RANK)
    info = {"attribute_tokens": False, "num_items": 30, "num_grads": 30, "grad_sizes": sizes, "base_dtype": "float32"}
    (folder / "store" / "info.json").write_text(json.dumps(info))
    write_settings(folder / "store", SETTINGS)
    return folder


def write_settings(store: Path, settings: dict[str, object]) -> None:
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in settings.items()]
    (store / "processor_config.yaml").write_text("".join(lines))


@pytest.mark.parametrize("options", [BuildOptions(bits=32), BuildOptions(bits=8)], ids=["exact", "codes"])
def test_an_imported_index_answers_as_its_gradients_say(
    whole: Path, checkpoint_folder: Path, tmp_path: Path, options: BuildOptions
) -> None:
    made = import_bergson(
        whole / "store", str(checkpoint_folder), str(whole / "corpus.jsonl"), tmp_path / "i", options, device="cpu"
    )
    assert (made.documents, made.width, made.layers[0]) == (30, 75, "transformer.h.0.mlp.c_fc")
    index = Index.open(tmp_path / "i", device="cpu")
    documents = index.documents.by_ordinal(range(30))
    rows = index.rows([index.encode_truncated("", document.text) for document in documents])
    found = index.search(rows, top_k=1, score="cosine")
    assert [hits[0].ordinal for hits in found] == list(range(30))
    assert min(hits[0].score for hits in found) > 0.99
    assert not (tmp_path / "i" / "gradients").exists()
    again = import_bergson(
        whole / "store", str(checkpoint_folder), str(whole / "corpus.jsonl"), tmp_path / "i", options, device="cpu"
    )
    assert again == made
    index.close()


def test_stores_in_16_bits_are_read(whole: Path, tmp_path: Path) -> None:
    info = json.loads((whole / "store" / "info.json").read_text())
    exact = BergsonStore.open(whole / "store").rows(range(30))
    write_settings(tmp_path, SETTINGS)
    for name, written in (
        ("float16", exact.astype(np.float16).tobytes()),
        ("bfloat16", (exact.view(np.uint32) >> 16).astype(np.uint16).tobytes()),
    ):
        (tmp_path / "info.json").write_text(json.dumps(info | {"base_dtype": name}))
        (tmp_path / "gradients.bin").write_bytes(written)
        np.testing.assert_allclose(BergsonStore.open(tmp_path).rows(range(3, 9)), exact[3:9], rtol=0.01, atol=1e-6)


def _cut(store: Path) -> None:
    (store / "gradients.bin").write_bytes((store / "gradients.bin").read_bytes()[:-4])


def _of_tokens(store: Path) -> None:
    info = json.loads((store / "info.json").read_text())
    (store / "info.json").write_text(json.dumps(info | {"attribute_tokens": True}))


def _normalised(store: Path) -> None:
    with zipfile.ZipFile(store / "normalizers.pth", "w") as file:
        file.writestr("normalizers/data/0", b"numbers")


def _not_finite(store: Path) -> None:
    data = np.fromfile(store / "gradients.bin", dtype=np.float32)
    data[75 * 4] = np.inf
    data.tofile(store / "gradients.bin")


def _another_order(store: Path) -> None:
    np.fromfile(store / "gradients.bin", dtype=np.float32).reshape(30, 75)[::-1].tofile(store / "gradients.bin")


def _another_loss(store: Path) -> None:
    (np.fromfile(store / "gradients.bin", dtype=np.float32) / 9).tofile(store / "gradients.bin")


def _a_document_less(store: Path) -> None:
    lines = (store.parent / "corpus.jsonl").read_text().splitlines(keepends=True)
    (store.parent / "corpus.jsonl").write_text("".join(lines[:-1]))


def _another_model(store: Path) -> None:
    info = (store / "info.json").read_text()
    (store / "info.json").write_text(info.replace("h.1.mlp.c_fc", "h.9.mlp.c_fc"))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_cut, DataError, "does not hold 30 rows of 75 numbers"),
        (_of_tokens, DataError, "gradients of tokens"),
        (_normalised, DataError, "build it without normalizers"),
        (_not_finite, DataError, "row 4 is not finite"),
        (_another_order, DataError, r"is not the gradient of document 'doc-\d+' of this model"),
        (_another_loss, DataError, "of another loss than the sum over a document's tokens"),
        (_a_document_less, DataError, "holds 30 rows, and .* 29 documents"),
        (_another_model, ModelError, "names a layer 'h.9.mlp.c_fc', and the model has 0 of it"),
        (lambda store: (store / "info.json").unlink(), DataError, "give a folder that bergson's `build` has finished"),
        (lambda store: (store / "info.json").write_text("[]"), DataError, "it holds no fields"),
        (lambda store: write_settings(store, SETTINGS | {"projection_version": 1}), DataError, "projection_version 1"),
        (lambda store: write_settings(store, SETTINGS | {"projection_dim": 0}), DataError, "give a projection_dim"),
        (lambda store: write_settings(store, SETTINGS | {"include_bias": True}), DataError, "include_bias True"),
    ],
)
def test_stores_that_are_not_imported(
    whole: Path,
    checkpoint_folder: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    error: type[Exception],
    message: str,
) -> None:
    for name in ("info.json", "gradients.bin", "processor_config.yaml"):
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / name).write_bytes((whole / "store" / name).read_bytes())
    (tmp_path / "corpus.jsonl").write_bytes((whole / "corpus.jsonl").read_bytes())
    spoil(tmp_path / "store")
    with pytest.raises(error, match=message):
        import_bergson(
            tmp_path / "store",
            str(checkpoint_folder),
            str(tmp_path / "corpus.jsonl"),
            tmp_path / "i",
            BuildOptions(bits=32),
            device="cpu",
        )
    assert not (tmp_path / "i" / "manifest.json").exists()
