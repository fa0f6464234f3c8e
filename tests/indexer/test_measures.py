"""What an evaluation measures, each against a slow twin: scipy's Spearman, a hand-made step, a hand-made ranking."""

import copy
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from headwater_indexer.corpus import Document
from headwater_indexer.errors import HeadwaterError, UsageError
from headwater_indexer.evaluation.intervals import bootstrap
from headwater_indexer.evaluation.lds import lds, rank_correlations, ranks, seed_agreement
from headwater_indexer.evaluation.query_set import make_queries
from headwater_indexer.evaluation.recall import first_places, known_sources, recall_figures
from headwater_indexer.evaluation.removal import most_influential
from headwater_indexer.evaluation.report import Evaluation, Figure, as_html
from headwater_indexer.evaluation.tail_patch import stepped, tail_patch
from headwater_indexer.evaluation.training import TrainingOptions, summed_losses, train
from headwater_indexer.scores import Query
from headwater_indexer.windows import Encoder, Window


def test_lds_is_scipys_spearman_ties_and_all() -> None:
    draw = np.random.default_rng(0)
    masks = draw.random((30, 12)) < 0.5
    losses, scores = draw.normal(size=(30, 5)).round(1), draw.integers(0, 3, (5, 12)).astype(np.float32)
    expected = [spearmanr(masks @ scores[q], -losses[:, q]).statistic for q in range(5)]
    np.testing.assert_allclose(lds(masks, losses, scores), expected, atol=1e-12)
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]
    assert lds(masks, losses, np.zeros((5, 12))).tolist() == [0.0] * 5


def test_true_scores_reach_one_and_their_opposite_minus_one() -> None:
    draw = np.random.default_rng(1)
    masks, scores = draw.random((40, 20)) < 0.5, draw.normal(size=(3, 20))
    losses = -((masks @ scores.T) ** 3)  # any order-preserving loss
    np.testing.assert_allclose(lds(masks, losses, scores), 1)
    np.testing.assert_allclose(lds(masks, losses, -scores), -1)


def test_seeds_agree_as_their_losses_do() -> None:
    draw = np.random.default_rng(2)
    losses = draw.normal(size=(25, 2, 4))
    np.testing.assert_allclose(seed_agreement(losses), rank_correlations(losses[:, 0], losses[:, 1]))
    assert np.isnan(seed_agreement(losses[:, :1])).all()


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    draw = np.random.default_rng(3)
    held = [(i := bootstrap(draw.exponential(size=40), seed=n)).low <= 1 <= i.high for n in range(200)]
    assert 0.86 <= np.mean(held) <= 0.99
    one = bootstrap(np.array([0.3]))
    assert one.low == one.mean == one.high == pytest.approx(0.3)


def test_recall_counts_ties_against_the_method() -> None:
    queries = [
        Query("1", "", "x", source_id="b"),
        Query("2", "", "x", source="book"),
        Query("3", "", "x"),
        Query("4", "", "x", source_id="gone", source="book"),
    ]
    relevant = known_sources(queries, ["a", "b", "c"], ["book", None, "book"])
    assert relevant.tolist() == [[False, True, False], [True, False, True], [False] * 3, [False] * 3]
    scores = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    places = first_places(scores, relevant[:2])
    assert places.tolist() == [3, 1]
    figures = recall_figures(places)
    assert figures["recall@1"].tolist() == [0, 1]
    assert figures["recall@10"].tolist() == [1, 1]
    assert figures["mrr"].tolist() == [1 / 3, 1]
    assert most_influential(np.array([[1.0, 3.0, 3.0, 2.0]]), 3).tolist() == [[1, 2, 3]]


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tokenizer, 64)


def windows_of(encoder: Encoder, *texts: str) -> list[Window]:
    return [
        window for text in texts for window in encoder.document(Document(id=text, text=text, source=None, metadata={}))
    ]


def test_tail_patch_is_a_step_made_by_hand(make_model: Callable[..., PreTrainedModel], encoder: Encoder) -> None:
    model = make_model("llama")
    documents = windows_of(encoder, "the river feeds the lake", "the mill turns the stone of the bridge 5")
    query = encoder.pair("the river", " feeds the lake").window
    weights_before = copy.deepcopy(model.state_dict())
    gain = tail_patch(model, documents, query, step=1e-2)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights_before[name]), name
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())

    twin = copy.deepcopy(model).requires_grad_(True)

    def loss(windows: list[Window]) -> torch.Tensor:
        """Summed, one window at a time."""
        total = torch.zeros(())
        for window in windows:
            ids = torch.from_numpy(window.input_ids.astype("int64"))[None]
            log = twin(ids).logits.log_softmax(-1)[0, :-1]
            picked = log.gather(1, ids[0, 1:, None])[:, 0]
            total = total - picked[window.first_target - 1 :].sum()
        return total

    before = loss([query]).item()
    (loss(documents) / sum(window.targets for window in documents)).backward()
    with torch.no_grad():
        size = torch.cat([w.flatten() for w in twin.parameters()]).norm()
        length = torch.cat([w.grad.flatten() for w in twin.parameters() if w.grad is not None]).norm()
        for weight in twin.parameters():
            if weight.grad is not None:
                weight -= 1e-2 * size / length * weight.grad
    assert gain == pytest.approx(before - loss([query]).item(), rel=1e-3)
    assert gain > 0
    assert summed_losses(model, [query])[0] == pytest.approx(before, rel=1e-5)


def test_the_model_is_restored_when_the_body_raises(
    make_model: Callable[..., PreTrainedModel], encoder: Encoder
) -> None:
    model = make_model("gpt2")
    before = copy.deepcopy(model.state_dict())
    moved = []

    def fail() -> None:
        with stepped(model, windows_of(encoder, "the mill turns"), 0.1):
            moved.append(not torch.equal(model.lm_head.weight, before["lm_head.weight"]))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert moved == [True]
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_training_learns_and_repeats_itself(make_model: Callable[..., PreTrainedModel], encoder: Encoder) -> None:
    windows = windows_of(encoder, *(f"the river feeds the lake {n}" for n in range(8)))
    options = TrainingOptions(epochs=3, learning_rate=3e-3, batch_size=3)

    def trained(seed: int) -> np.ndarray:
        model = make_model("gpt2")
        model.config.resid_pdrop = 0.0
        train(model, windows, options, seed=seed)
        assert not model.training
        return summed_losses(model, windows)

    first = trained(0)
    assert first.mean() < 0.8 * summed_losses(make_model("gpt2"), windows).mean()
    np.testing.assert_array_equal(first, trained(0))
    assert not np.array_equal(first, trained(1))
    broken = make_model("gpt2")
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(HeadwaterError, match="lower --learning-rate"):
        train(broken, windows, options, seed=0)


def test_made_queries_are_held_out_or_quoted() -> None:
    documents = [
        Document(id=str(n), text=f"number {n} " + "of many words in a row " * 4, source=None, metadata={})
        for n in range(40)
    ] + [Document(id="short", text="too short", source=None, metadata={})]
    made = make_queries(documents, held_out=10, quotes=6, seed=0)
    kept = {document.id: document for document in made.documents}
    assert (len(kept), len(made.queries)) == (31, 16)
    texts = {document.text: document.id for document in documents}
    held = [query for query in made.queries if query.source_id is None]
    assert all(texts[query.prompt + query.response] not in kept for query in held)
    gone = sorted(int(texts[query.prompt + query.response]) for query in held)
    assert min(np.diff(gone)) > 1
    for query in made.queries[10:]:
        assert query.source_id is not None
        assert kept[query.source_id].text == query.prompt + query.response
        assert query.prompt.endswith(" ")
    assert made == make_queries(documents, held_out=10, quotes=6, seed=0)
    assert made.queries != make_queries(documents, held_out=10, quotes=6, seed=1).queries
    with pytest.raises(UsageError, match="too few for --held-out 30"):
        make_queries(documents, held_out=30, quotes=0, seed=0)


class Tags(HTMLParser):
    """Collects tags and where attributes point."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_the_report_takes_no_text_as_markup_and_asks_nobody() -> None:
    nasty = '<script src="//evil.example/x.js">alert(1)</script>&"'
    figure = Figure(name=nasty, what=nasty, methods={nasty: np.array([0.1, -0.4, 0.4]), "bm25": np.zeros(3)})
    page = as_html(Evaluation(about={nasty: nasty}, figures=[figure]))
    parsed = Tags()
    parsed.feed(page)
    assert "script" not in parsed.tags
    assert parsed.tags.count("svg") == 1
    assert parsed.tags.count("circle") == 2 * 4
    assert not parsed.addresses
    assert "default-src 'none'" in page
    assert "nan" not in page
