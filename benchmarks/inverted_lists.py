"""What FAISS's inverted lists (IVF) and product codes (PQ) find of the rows that are searched here, beside signs.

    python benchmarks/inverted_lists.py [--quick]

A small GPT-2 is trained on pieces of Python's own sources, which are then indexed in float32; halves of further
pieces are asked, as responses to their first halves. A document proposed is a document found, since candidates are
scored again. IVF proposes all documents of the lists nearest to a question, PQ and signs the best by their codes. 96
bytes are the most that a code of FAISS's classic GPU indexes may have. Where inverted lists found as much as signs do
in few of the rows, or such codes as much in as many candidates, either would have to be offered: the exit code is 0
only when neither does. Prints one JSON object.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import faiss
import numpy as np
import torch
import typer
from exact_scan import held_rows
from measuring import THREADS, conclude, described
from workloads import CONFIGS, make_model, write_corpus, write_tokenizer

from headwater_indexer.build import build_index
from headwater_indexer.checkpoint import load_checkpoint
from headwater_indexer.corpus import read_documents
from headwater_indexer.evaluation.training import TrainingOptions, train
from headwater_indexer.index import Index
from headwater_indexer.options import BuildOptions
from headwater_indexer.search import FlatSearch
from headwater_indexer.signs.coder import SignCoder
from headwater_indexer.signs.scan import SignScan
from headwater_indexer.windows import Encoder
from headwater_indexer.workspace import Workspace

TOKENS = 48  # of a document
RANK = 36  # 10,368 columns, which 96 divides
TRAINED_ON = 1 / 4  # of the documents
QUERIES = 64
BEST = 10
LISTS = 64
PROBED = (1, 2, 4, 8, 16, 32)
CANDIDATES = (0.01, 0.05, 0.1)  # of the documents
GPU_CODE_BYTES = 96
FEW = 1 / 8  # of the rows
WANTED = 0.99


def material(folder: Path, documents: int) -> tuple[Path, Path, list[str]]:
    """A trained model, the corpus, and the texts that are asked, which are not in it."""
    model, whole, corpus = folder / "model", folder / "whole.jsonl", folder / "corpus.jsonl"
    make_model("gpt2-small", torch.device("cpu")).save_pretrained(model)
    write_tokenizer(model)
    write_corpus(whole, [TOKENS] * (documents + QUERIES))
    lines = whole.read_text("utf-8").splitlines(keepends=True)
    asked = lines[:: len(lines) // QUERIES][:QUERIES]
    kept_aside = set(asked)
    corpus.write_text("".join(line for line in lines if line not in kept_aside), "utf-8")
    checkpoint = load_checkpoint(str(model), device="cpu")
    encoder = Encoder(checkpoint.tokenizer, CONFIGS["gpt2-small"].n_positions)
    documents_read = list(read_documents(str(corpus), BuildOptions().fields))
    chosen = documents_read[:: round(1 / TRAINED_ON)]
    windows = [window for document in chosen for window in encoder.document(document)]
    train(checkpoint.model, windows, TrainingOptions(epochs=2, batch_size=16), seed=0)
    checkpoint.model.save_pretrained(model)
    return model, corpus, [json.loads(line)["text"] for line in asked]


def rows_of(folder: Path, documents: int) -> tuple[np.ndarray, np.ndarray]:
    """The documents' unit rows and the questions' rows."""
    model, corpus, asked = material(folder, documents)
    options = BuildOptions(rank=RANK, bits=32, plan="exact")
    build_index(str(model), str(corpus), folder / "index", options, device="cpu")
    index = Index.open(folder / "index", device="cpu")
    pairs = [index.encode(text[: len(text) // 2], text[len(text) // 2 :]) for text in asked]
    work = Workspace(folder / "index")
    search = FlatSearch.open(work.search, work.norms)  # by name, since its rows are gone with it
    return held_rows(search).copy(), index.rows(pairs)


def found(best: np.ndarray, proposed: Sequence[np.ndarray]) -> float:
    """The share of the best documents that were proposed, in the mean over the questions."""
    return float(np.mean([np.isin(wanted, own).mean() for wanted, own in zip(best, proposed, strict=True)]))


def by_lists(rows: np.ndarray, queries: np.ndarray, best: np.ndarray) -> dict[str, dict[str, float]]:
    """By lists probed: the share of the rows in them, and what was found."""
    quantizer = faiss.IndexFlatIP(rows.shape[1])
    lists = faiss.IndexIVFFlat(quantizer, rows.shape[1], LISTS, faiss.METRIC_INNER_PRODUCT)
    lists.train(rows)
    _, owner = quantizer.search(rows, 1)
    members = [np.flatnonzero(owner[:, 0] == number) for number in range(LISTS)]
    _, nearest = quantizer.search(queries, max(PROBED))
    told = {}
    for probed in PROBED:
        proposed = [np.concatenate([members[number] for number in own[:probed]]) for own in nearest]
        share = float(np.mean([len(own) for own in proposed])) / len(rows)
        told[str(probed)] = {"share_of_rows": round(share, 4), "found": round(found(best, proposed), 4)}
    return told


def by_product_codes(
    rows: np.ndarray, queries: np.ndarray, best: np.ndarray, *, counts: Sequence[int]
) -> dict[str, Any]:
    codes = faiss.IndexPQ(rows.shape[1], GPU_CODE_BYTES, 8, faiss.METRIC_INNER_PRODUCT)
    codes.train(rows)
    codes.add(rows)
    _, ordinals = codes.search(queries, max(counts))
    return {"bytes": GPU_CODE_BYTES, "found": {str(c): round(found(best, list(ordinals[:, :c])), 4) for c in counts}}


def by_signs(rows: np.ndarray, queries: np.ndarray, best: np.ndarray, *, counts: Sequence[int]) -> dict[str, Any]:
    coder = SignCoder.make(rows.shape[1], most=rows.shape[1], seed=0)
    scan = SignScan.of(coder, len(rows), [coder.encode(rows)])
    proposed = [one.ordinals for one in scan.propose(queries, candidates=max(counts), score="relatif")]
    told = {str(c): round(found(best, [own[:c] for own in proposed]), 4) for c in counts}
    return {"bytes": coder.bytes, "found": told}


def main(quick: Annotated[bool, typer.Option("--quick", help="An eighth of the documents.")] = False) -> None:
    """Compare what inverted lists, product codes and signs propose."""
    torch.set_num_threads(THREADS)
    documents = 1_000 if quick else 8_000
    with tempfile.TemporaryDirectory() as folder:
        rows, queries = rows_of(Path(folder), documents)
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :BEST]
    counts = [int(share * len(rows)) for share in CANDIDATES]
    lists = by_lists(rows, queries, best)
    small = by_product_codes(rows, queries, best, counts=counts)
    signs = by_signs(rows, queries, best, counts=counts)
    falls_short = [
        f"{probed} lists find {one['found']} of the best in {one['share_of_rows']} of the rows: offer IVF"
        for probed, one in lists.items()
        if one["share_of_rows"] <= FEW and one["found"] >= WANTED
    ]
    falls_short += [
        f"codes of {GPU_CODE_BYTES} bytes find {value} of the best in {count} candidates, signs {signs['found'][count]}"
        for count, value in small["found"].items()
        if value >= signs["found"][count]
    ]
    conclude(
        {
            **described(torch.device("cpu")),
            "quick": quick,
            "faiss": faiss.__version__,
            "documents": len(rows),
            "columns": rows.shape[1],
            "questions": len(queries),
            "best": BEST,
            "lists": LISTS,
            "by_lists_probed": lists,
            "product_codes": small,
            "signs": signs,
            "falls_short": falls_short,
        }
    )


if __name__ == "__main__":
    typer.run(main)
