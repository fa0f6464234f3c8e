"""How the scores of all documents are spread, counted over HTTP and by hand; and what an index says it can do."""

import numpy as np
import pytest

from headwater.types import Attribution, IndexInfo

PROMPT, RESPONSE = "The river", " floods a lake in year 1913"
EVEN_BOOKS = {"must": [{"key": "source", "in": ["book 0", "book 2"]}]}


def ask(server, **fields):
    question = {"prompt": PROMPT, "response": RESPONSE, "top_k": 5, "include": []}
    answer = server.client.post("/v1/attribute", json=question | fields)
    assert answer.status_code == 200, answer.text
    return Attribution.model_validate(answer.json())


@pytest.fixture(scope="module")
def influences(real_live):
    index = real_live.engine.index("default")
    row = index.rows([index.encode(PROMPT, RESPONSE)])
    return index.influences(row)[0].astype(np.float64), index.norms, np.linalg.norm(row)


@pytest.mark.parametrize("score", ["relatif", "influence", "cosine"])
def test_the_histogram_counts_every_document_once(real_live, influences, score):
    plain, norms, length = influences
    expected = {"influence": plain, "relatif": plain / norms, "cosine": plain / norms / length}[score]
    found = ask(real_live, score=score, histogram=True).histogram
    assert (found.low, found.high) == pytest.approx((expected.min(), expected.max()), rel=1e-4)
    edges = np.linspace(found.low, found.high, len(found.counts) + 1)
    assert sum(found.counts) == 60
    assert (np.abs(np.cumsum(found.counts) - [(expected < edge).sum() for edge in edges[1:]]) <= 1).all()


@pytest.mark.parametrize("filters", [None, EVEN_BOOKS])
@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("score", ["relatif", "influence"])
def test_the_documents_are_those_of_a_question_without_one(real_live, score, sign, filters):
    fields = {"score": score, "sign": sign, "filters": filters}
    plain, counted = ask(real_live, **fields), ask(real_live, **fields, histogram=True)
    assert plain.histogram is None
    assert [one.document_id for one in counted.data] == [one.document_id for one in plain.data]
    assert [one.percentile for one in counted.data] == [one.percentile for one in plain.data]
    assert [one.score for one in counted.data] == pytest.approx([one.score for one in plain.data], rel=1e-3)
    assert sum(counted.histogram.counts) == (60 if filters is None else 30) == counted.index.searched


def test_a_baseline_and_a_rescored_answer_have_one_too(real_live):
    [scores] = real_live.engine.index("default").baseline("bm25", [(PROMPT, RESPONSE)])
    found = ask(real_live, method="bm25", histogram=True).histogram
    assert (found.low, found.high) == pytest.approx((scores.min(), scores.max()))
    assert sum(ask(real_live, rescore=9, histogram=True).histogram.counts) == 60


def test_where_no_document_passes_there_is_none(real_live):
    for method in ("influence", "bm25"):
        answer = ask(
            real_live, method=method, histogram=True, filters={"must": [{"key": "source", "equals": "no book"}]}
        )
        assert (answer.data, answer.histogram, answer.index.searched) == ([], None, 0)


def test_an_index_says_what_it_can_do(real_live, twin, live):
    info = IndexInfo.model_validate(real_live.client.get("/v1/indexes/default").json())
    assert (info.explains, info.baselines, info.chat) == (True, ["bm25", "hidden-states"], None)
    plain = live(twin(), upstream="http://127.0.0.1:1", upstream_model=("served", "default=also"))
    info = IndexInfo.model_validate(plain.client.get("/v1/indexes/default").json())
    assert (info.explains, info.baselines) == (False, ["bm25"])
    assert (info.chat.model, info.chat.messages) == ("served", False)
    unnamed = live(twin(), upstream="http://127.0.0.1:1")
    assert unnamed.client.get("/v1/indexes/default").json()["chat"]["model"] == "twin"
