"""Answers over a real index: what stands in them, and that company does not change them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import headwater
from headwater.types import Attribution, DocumentRecord, IndexInfo, IndexList
from headwater_server.answers import credit


@pytest.fixture(scope="module")
def server(real_live):
    return real_live


def ask(server, **fields):
    question = {"prompt": "The river feeds", "response": " the mill in year 1900, and 0 boats went by.", "top_k": 8}
    return server.client.post("/v1/attribute", json=question | fields)


def strict(kind, answer):
    """The answer as the SDK's type, and nothing in it that the type does not know."""
    assert answer.status_code == 200, answer.text
    parsed = kind.model_validate(answer.json())
    assert parsed.model_dump(mode="json") == answer.json()
    return parsed


def test_an_answer_is_as_promised(server):
    answer = strict(Attribution, ask(server))
    assert answer.id.startswith("attr_")
    assert (answer.index.name, answer.index.documents) == ("default", 60)
    assert answer.index.version.startswith("sha256:")
    assert (answer.method.score, answer.method.hessian, answer.method.sign) == ("relatif", "ekfac", "positive")
    assert [document.rank for document in answer.data] == list(range(1, 9))
    scores = [document.score for document in answer.data]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= document.percentile <= 100 for document in answer.data)
    assert answer.data[0].metadata == {"page": int(answer.data[0].document_id.removeprefix("river/"))}
    assert answer.timings_ms.total >= answer.timings_ms.gradient > 0


def test_the_served_scores_are_the_index_s_own(server):
    index = server.engine.index("default")
    [hits] = index.search(index.rows([index.encode("The river", " floods a lake")]), top_k=60, score="cosine")
    answer = ask(server, prompt="The river", response=" floods a lake", top_k=60, score="cosine").json()
    assert [document["score"] for document in answer["data"]] == pytest.approx([hit.score for hit in hits], rel=1e-5)
    assert len({document["document_id"] for document in answer["data"]}) == 60


def test_a_document_that_asks_for_itself_comes_first(server):
    for ordinal in (0, 17, 59):
        text = server.engine.index("default").documents.by_ordinal([ordinal])[0].text
        assert ask(server, prompt="", response=text).json()["data"][0]["document_id"] == f"river/{ordinal}"


def test_both_routes_answer_alike(server):
    question = {"prompt": "A stream", "response": " leaves a lake", "top_k": 5}
    answers = [server.client.post(path, json=question).json() for path in ("/attribute", "/v1/attribute")]
    assert answers[0]["data"] == answers[1]["data"]
    assert answers[0]["id"] != answers[1]["id"]


def test_negative_influence_is_the_other_end(server):
    everything = ask(server, top_k=60, include=[]).json()["data"]
    against = ask(server, top_k=5, include=[], sign="negative").json()
    assert [one["document_id"] for one in against["data"]] == [one["document_id"] for one in everything[:-6:-1]]
    assert sum(source["share"] for source in against["sources"]) == pytest.approx(1)


def test_include_leaves_out_what_was_not_asked_for(server):
    for include, text, metadata in (([], False, False), (["text"], True, False), (["metadata"], False, True)):
        document = ask(server, include=include).json()["data"][0]
        assert ((document["text"] is not None), (document["metadata"] is not None)) == (text, metadata)


def test_credit_by_source_is_the_share_of_the_summed_scores(server):
    answer = strict(Attribution, ask(server, top_k=60))
    total = sum(max(0, one.score) for one in answer.data)
    for share in answer.sources:
        own = [one.score for one in answer.data if one.source == share.source]
        assert share.share == pytest.approx(sum(max(0, score) for score in own) / total)
        assert share.documents == len(own) == 15


def test_credit_counts_the_asked_sign_alone_and_documents_without_source():
    found = credit([("a", 3.0), (None, 1.0), ("b", -9.0)], "positive")
    assert [(one.source, one.share, one.documents) for one in found] == [("a", 0.75, 1), (None, 0.25, 1), ("b", 0.0, 1)]
    assert credit([("a", 3.0), ("b", -9.0)], "negative")[0].source == "b"
    assert credit([("a", 0.0)], "positive")[0].share == 0.0


def test_64_at_once_are_answered_as_one_by_one(server):
    questions = [
        {"prompt": "The river " * (n % 5), "response": f"floods the delta in year {1900 + n}" + " again" * (n % 11)}
        for n in range(64)
    ]
    alone = [ask(server, **question).json() for question in questions]
    with ThreadPoolExecutor(64) as pool:
        together = [answer.json() for answer in pool.map(lambda question: ask(server, **question), questions)]
    for one, other in zip(alone, together, strict=True):
        assert one["usage"] == other["usage"]
        for mine, yours in zip(one["data"], other["data"], strict=True):
            assert mine["score"] == pytest.approx(yours["score"], rel=1e-4)
        assert one["data"][0]["document_id"] == other["data"][0]["document_id"]


def test_indexes_and_documents(server):
    listed = strict(IndexList, server.client.get("/v1/indexes"))
    [info] = listed.data
    assert info == strict(IndexInfo, server.client.get("/v1/indexes/default"))
    assert (info.name, info.documents, info.method.projection.rank) == ("default", 60, 4)
    document = strict(DocumentRecord, server.client.get("/v1/documents/river/7"))
    assert (document.id, document.source, document.metadata) == ("river/7", "book 3", {"page": 7})
    assert "1907" in document.text


def test_probes_and_version(server):
    for path in ("/livez", "/readyz", "/health"):
        assert server.client.get(path).json()["status"] == "ok"
    assert server.client.get("/version").json() == {"name": "headwater", "version": headwater.__version__}


def test_the_spans_of_a_response_add_up_to_it(server):
    """The gradient of a sum of losses is the sum of their gradients: influence is additive over tokens."""
    response = " floods a lake in year 1913"
    cut = len(" floods a")
    whole, first, last = (
        ask(server, prompt="The river", response=response, score="influence", top_k=60, include=[], **span).json()
        for span in ({}, {"span": {"start": 0, "stop": cut}}, {"span": {"start": cut, "stop": len(response)}})
    )
    counted = [answer["usage"]["counted_tokens"] for answer in (first, last, whole)]
    assert counted[0] + counted[1] == counted[2] == whole["usage"]["response_tokens"]
    scores = [{one["document_id"]: one["score"] for one in answer["data"]} for answer in (first, last, whole)]
    largest = max(map(abs, scores[2].values()))
    for document, score in scores[2].items():
        assert scores[0][document] + scores[1][document] == pytest.approx(score, abs=1e-4 * largest)
    assert [one["document_id"] for one in first["data"]] != [one["document_id"] for one in last["data"]]


def test_text_is_withheld_where_the_operator_says_so(twin, live):
    withheld = live(twin(), withhold_text=True)
    answer = withheld.ask().json()
    assert [(one["text"], one["metadata"] is not None) for one in answer["data"]] == [(None, True)] * 3
    explain = {"prompt": "", "response": "x", "document_ids": ["doc/1"]}
    for refused in (
        withheld.ask(include=["text"]),
        withheld.client.get("/v1/documents/doc/1"),
        withheld.client.post("/v1/explain", json=explain),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "text_withheld")
        assert "text of" not in refused.text


HTML = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


def test_a_document_of_html_is_data_and_nothing_else(twin, live):
    """No browser takes it for a page, even where somebody leads it there by a link."""
    index = twin()
    for document in index.documents.all:
        document.text, document.source, document.metadata = HTML, HTML, {HTML: HTML}
    server = live(index)
    given, asked = server.client.get("/v1/documents/doc/1"), server.ask()
    assert (given.json()["text"], asked.json()["data"][0]["text"]) == (HTML, HTML)
    for answer in (given, asked):
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
