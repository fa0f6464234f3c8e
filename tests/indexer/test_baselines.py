"""Baselines: BM25 against the formula over all pairs, hidden states against a forward pass without padding."""

import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from headwater_indexer.baselines.bm25 import FullText
from headwater_indexer.baselines.matrix import BM25_WEIGHT, hybrid_scores
from headwater_indexer.build import build_index
from headwater_indexer.corpus import Document, read_documents
from headwater_indexer.errors import ConfigurationError, IndexDamaged
from headwater_indexer.index import Index
from headwater_indexer.manifest import Manifest
from headwater_indexer.options import BuildOptions
from headwater_indexer.store.shards import ShardStore

QUESTIONS = [("the river", " feeds the lake 7 the river"), ("", "stone mill bridge"), ("nothing", " here matches")]


def document(number: int, text: str, prompt: str | None = None) -> Document:
    return Document(id=str(number), text=text, source=None, metadata={}, prompt=prompt)


def brute_force(texts: list[str], question: str) -> list[float]:
    """BM25 as SQLite documents it: k1 = 1.2, b = 0.75, an idf that never goes below 1e-6, terms as often as asked."""
    words = [Counter(re.findall(r"[a-z0-9]+", text.lower())) for text in texts]
    lengths = [sum(counted.values()) for counted in words]
    average = sum(lengths) / len(lengths)
    scores = [0.0] * len(texts)
    for term, asked in Counter(re.findall(r"[a-z0-9]+", question.lower())).items():
        having = sum(term in counted for counted in words)
        idf = math.log((len(texts) - having + 0.5) / (having + 0.5))
        idf = idf if idf > 0 else 1e-6
        for i, counted in enumerate(words):
            norm = 1.2 * (1 - 0.75 + 0.75 * lengths[i] / average)
            scores[i] += asked * idf * counted[term] * 2.2 / (counted[term] + norm)
    return scores


def test_bm25_is_the_formula(corpus_file: Path) -> None:
    documents = list(read_documents(str(corpus_file)))
    texts = FullText.in_memory(documents)
    for prompt, response in QUESTIONS:
        expected = brute_force([document.text for document in documents], f"{prompt} {response}")
        np.testing.assert_allclose(texts.scores(f"{prompt} {response}"), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "question",
    [
        '"river" AND NOT lake* OR (mill NEAR/2 stone)',
        'text: river ^mill + - {lake} \' " "" ;--',
        "river\0stone \ud800 \U0001f600",
        "RIVER, mill! stone?",
        "",
        "\"'()*:^",
        " ".join(f"word{n}" for n in range(5000)) + " river mill stone",
    ],
)
def test_any_text_is_a_question(question: str) -> None:
    texts = FullText.in_memory([document(0, "the river"), document(1, "a mill of stone"), document(2, "nothing")])
    scores = texts.scores(question)
    assert np.isfinite(scores).all()
    assert bool(scores[0] > 0) == ("river" in question.lower())
    assert scores[2] == 0


def test_the_best_are_found_in_order_and_prompts_are_searched(tmp_path: Path) -> None:
    FullText.write(
        tmp_path / "words.sqlite",
        [document(0, "river river"), document(1, "mill"), document(2, "a long text with one river in it", "the mill")],
    )
    texts = FullText.open(tmp_path / "words.sqlite")
    scores = texts.scores("river")
    assert [ordinal for ordinal, _ in texts.search("river", 5)] == [0, 2]
    assert texts.search("river", 1)[0][1] == pytest.approx(scores[0])
    assert texts.scores("mill")[2] > 0
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(texts.scores("river").tolist())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [scores.tolist()] * 8
    (tmp_path / "words.sqlite").write_bytes(b"SQLite format 3\0" + bytes(500))
    with pytest.raises(IndexDamaged, match=r"words\.sqlite"):
        FullText.open(tmp_path / "words.sqlite")


def test_hybrid_is_a_weighted_sum_of_what_has_no_scale() -> None:
    draw = np.random.default_rng(0)
    influence, bm25 = draw.normal(size=(3, 50)), draw.random((3, 50)).astype(np.float32)
    bm25[2] = 0  # no word in common
    found = hybrid_scores(influence, bm25)
    np.testing.assert_allclose(found, hybrid_scores(1000 * influence + 7, 3 * bm25), rtol=1e-4, atol=1e-5)
    z = [(side[0] - side[0].mean()) / side[0].std() for side in (influence, bm25)]
    np.testing.assert_allclose(found[0], z[0] + BM25_WEIGHT * z[1], rtol=1e-4, atol=1e-5)
    assert found[2].argmax() == influence[2].argmax()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path) -> Path:
    """An index that keeps hidden states."""
    folder = tmp_path_factory.mktemp("index") / "i"
    build_index(str(checkpoint_folder), str(corpus_file), folder, BuildOptions(rank=4, embeddings=True))
    return folder


def test_an_index_answers_by_words_and_by_states(
    embedded: Path, corpus_file: Path, make_model: Callable[..., PreTrainedModel]
) -> None:
    index = Index.open(embedded, device="cpu")
    documents = list(read_documents(str(corpus_file)))
    words = index.baseline("bm25", QUESTIONS)
    np.testing.assert_allclose(words[1], FullText.in_memory(documents).scores(" stone mill bridge"))
    states = index.baseline("hidden-states", QUESTIONS)
    model, tokenizer = make_model("gpt2"), index.checkpoint.tokenizer

    def mean_state(ids: list[int]) -> np.ndarray:
        with torch.no_grad():
            layers = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        return np.asarray(layers[1][0].mean(dim=0).double())  # of 2 layers; 0 is the embedding

    # Documents of several windows are left to the build's own windows; short ones are compared one by one.
    short = [i for i, d in enumerate(documents) if len(tokenizer(d.text)["input_ids"]) <= 64]
    assert len(short) > 20
    ids = [tokenizer(documents[i].text)["input_ids"] for i in short]
    kept = np.concatenate(list(ShardStore.open(embedded / "embeddings")))
    np.testing.assert_allclose(kept[short], [mean_state(one) for one in ids], rtol=1e-4, atol=1e-5)
    centre = kept.astype(float).mean(axis=0)
    asked = mean_state(tokenizer(QUESTIONS[1][1])["input_ids"]) - centre
    seen = kept - centre
    expected = seen @ asked / np.linalg.norm(asked) / np.linalg.norm(seen, axis=1)
    np.testing.assert_allclose(states[1], expected, rtol=1e-3, atol=1e-5)
    index.close()


def test_states_are_kept_on_request_alone(embedded: Path, checkpoint_folder: Path, tmp_path: Path) -> None:
    assert any(file.path.startswith("embeddings/") for file in Manifest.read(embedded).files)
    corpus = tmp_path / "c.jsonl"
    corpus.write_text(json.dumps({"text": "the river feeds the lake"}) + "\n")
    build_index(str(checkpoint_folder), str(corpus), tmp_path / "i", BuildOptions(rank=4))
    index = Index.open(tmp_path / "i", device="cpu")
    assert index.baseline("bm25", QUESTIONS).shape == (3, 1)
    with pytest.raises(ConfigurationError, match="--embeddings"):
        index.baseline("hidden-states", QUESTIONS)
    index.close()
