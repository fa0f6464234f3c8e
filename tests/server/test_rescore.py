"""Rescoring, explanations and baselines over HTTP: the index's own figures, in the model's thread, with a deadline."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headwater.types import Attribution, Explanation

PROMPT, RESPONSE = "The river", " floods a lake in year 1913"


@pytest.fixture(scope="module")
def server(real_live):
    return real_live


def ask(server, **fields):
    question = {"prompt": PROMPT, "response": RESPONSE, "top_k": 5, "include": []}
    return server.client.post("/v1/attribute", json=question | fields)


def explain(server, *document_ids, **fields):
    question = {"prompt": PROMPT, "response": RESPONSE, "document_ids": list(document_ids)}
    return server.client.post("/v1/explain", json=question | fields)


@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("score", ["influence", "relatif"])
def test_all_documents_rescored_are_the_index_s_own_scores(server, sign, score):
    index = server.engine.index("default")
    [scores] = index.rescore([index.encode(PROMPT, RESPONSE)], None)
    expected = scores if score == "influence" else scores / index.norms
    order = np.argsort(-expected if sign == "positive" else expected)[:7]
    answer = Attribution.model_validate(ask(server, rescore=60, top_k=7, score=score, sign=sign).json())
    assert [one.document_id for one in answer.data] == [f"river/{n}" for n in order]
    assert [one.score for one in answer.data] == pytest.approx(expected[order].tolist(), rel=1e-3)
    assert (answer.method.rescored, answer.method.score, answer.usage.truncated) == (60, score, False)
    assert answer.data[0].percentile == pytest.approx(100 * 59 / 60 if sign == "positive" else 0)


def test_only_candidates_and_only_what_passes_are_rescored(server):
    found = {one["document_id"] for one in ask(server, top_k=10, score="influence").json()["data"]}
    again = {one["document_id"] for one in ask(server, rescore=10, top_k=10, score="influence").json()["data"]}
    assert again == found
    filters = {"must": [{"key": "metadata.page", "range": {"lt": 3}}]}
    few = ask(server, rescore=10, filters=filters).json()
    assert {one["document_id"] for one in few["data"]} == {"river/0", "river/1", "river/2"}
    assert (few["method"]["rescored"], few["index"]["searched"]) == (3, 3)


def test_an_explanation_is_the_index_s_own_and_sums_to_the_score(server):
    index = server.engine.index("default")
    ordinals = [13, 2]
    own = index.explain(index.encode(PROMPT, RESPONSE), ordinals)
    answer = Explanation.model_validate(explain(server, "river/13", "river/2").json())
    documents = index.documents.by_ordinal(ordinals)
    for one, other, document in zip(answer.data, own, documents, strict=True):
        assert one.document_id == document.id
        assert one.score == pytest.approx(other.score, rel=1e-4)
        for side, text in ((one.document, document.text), (one.response, RESPONSE)):
            assert sum(token.influence for token in side) == pytest.approx(one.score, rel=1e-2)
            placed = [token for token in side if token.start is not None]
            assert "".join(token.text for token in placed) == text
            assert all(text[token.start : token.stop] == token.text for token in placed)
    assert answer.usage.response_tokens == len([t for t in answer.data[0].response if t.start is not None])


def test_the_explanation_of_a_span_stands_at_its_tokens(server):
    start = RESPONSE.index("a lake")
    answer = Explanation.model_validate(
        explain(server, "river/13", span={"start": start, "stop": start + len("a lake")}).json()
    )
    [one] = answer.data
    counted = [token for token in one.response if token.influence != 0]
    assert len(counted) == answer.usage.counted_tokens < answer.usage.response_tokens
    assert all(token.stop > start and token.start < start + len("a lake") for token in counted)
    assert sum(token.influence for token in counted) == pytest.approx(one.score, rel=1e-2)


@pytest.mark.parametrize("method", ["bm25", "hidden-states"])
def test_a_baseline_is_the_index_s_own(server, method):
    index = server.engine.index("default")
    [scores] = index.baseline(method, [(PROMPT, RESPONSE)])
    answer = ask(server, method=method, filters={"must_not": [{"key": "source", "equals": "book 1"}]}).json()
    order = [n for n in np.argsort(-scores, kind="stable") if n % 4 != 1][:5]
    assert [one["score"] for one in answer["data"]] == pytest.approx(scores[order].tolist(), rel=1e-4)
    assert answer["data"][0]["document_id"] == f"river/{order[0]}"
    assert (answer["method"]["score"], answer["method"]["sign"]) == (method, "positive")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rescore": 3}, "`rescore` is at least `top_k`"),
        ({"refine": 1}, "`refine` goes with `rescore`"),
        ({"refine": 9, "rescore": 9}, "less than or equal to 5"),
        ({"rescore": 61}, "holds 60 documents: ask for a rescore from 1 to 60"),
        ({"method": "bm25", "rescore": 9}, "A baseline takes no `rescore`"),
        ({"method": "tf-idf"}, "'influence', 'bm25' or 'hidden-states'"),
    ],
)
def test_what_cannot_be_rescored(server, fields, sentence):
    refused = ask(server, **fields)
    assert refused.status_code == 422
    assert sentence in refused.json()["detail"]


def test_what_cannot_be_explained(server):
    assert explain(server, "river/1", "nobody").json()["error"]["code"] == "document_not_found"
    assert explain(server).status_code == 422
    assert explain(server, *["river/1"] * 33).status_code == 422
    assert explain(server, "river/1", span={"start": 0, "stop": 99}).status_code == 422
    assert explain(server, "river/1", index="none").status_code == 404


def test_an_index_without_what_is_needed_says_how_to_build_one(twin, live):
    server = live(twin())
    asked = {"--factors": [server.ask(rescore=9), explain(server, "doc/1")]}
    asked["--embeddings"] = [server.ask(method="hidden-states")]
    for option, answers in asked.items():
        for refused in answers:
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "index_lacks")
            assert option in refused.json()["detail"]


class Rescoring:
    """A twin whose documents can be scored again, slowly."""

    def __new__(cls, twin, work):
        index = twin()
        index.can_rescore = True
        index.norms = np.ones(40, dtype=np.float32)
        index.rescore = lambda pairs, ordinals, *, refine: work(ordinals)  # noqa: ARG005
        return index


def test_a_slow_question_has_a_longer_deadline_and_still_one(twin, live):
    held = threading.Event()

    def work(ordinals):
        held.wait(0.4 if not held.is_set() else 0)
        return [np.arange(len(ordinals[0]), dtype=np.float32)]

    patient = live(Rescoring(twin, work), request_timeout=0.2, slow_request_timeout=20)
    assert patient.ask(rescore=9).status_code == 200
    hasty = live(Rescoring(twin, work), request_timeout=20, slow_request_timeout=0.2)
    late = hasty.ask(rescore=9)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_passed")
    held.set()
    assert hasty.ask().status_code == 200


def test_work_that_fails_is_one_question_s_own(twin, live):
    def work(ordinals):
        if len(ordinals[0]) == 9:
            raise MemoryError
        return [np.arange(len(ordinals[0]), dtype=np.float32)]

    server = live(Rescoring(twin, work))
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(server.ask, rescore=count) for count in (8, 9, 10)]
        answers = [one.result() for one in asked]
    assert [answer.status_code for answer in answers] == [200, 422, 200]
    assert answers[1].json()["error"]["code"] == "out_of_memory"
    assert [one["score"] for one in answers[2].json()["data"]] == [9.0, 8.0, 7.0]
