"""Filters over a real index: which documents are searched, and what a filter that cannot be meant is told."""

import pytest

UNTOLD = "never-told-back"


@pytest.fixture(scope="module")
def server(real_live):
    return real_live


def ask(server, filters, **fields):
    question = {"prompt": "The river", "response": " floods a lake", "top_k": 60, "include": ["metadata"]}
    return server.client.post("/v1/attribute", json=question | fields | {"filters": filters})


def pages(answer):
    assert answer.status_code == 200, answer.text
    return {document["metadata"]["page"] for document in answer.json()["data"]}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, set(range(60))),
        ({"must": [{"key": "metadata.page", "equals": 7}]}, {7}),
        ({"must": [{"key": "metadata.page", "range": {"gte": 10, "lt": 12.5}}]}, {10, 11, 12}),
        ({"must": [{"key": "source", "equals": "book 1"}, {"key": "metadata.page", "range": {"lt": 10}}]}, {1, 5, 9}),
        ({"must_not": [{"key": "source", "in": ["book 0", "book 1", "book 2"]}]}, set(range(3, 60, 4))),
        ({"should": [{"key": "document_id", "in": ["river/3"]}, {"key": "metadata.page", "equals": 58}]}, {3, 58}),
        ({"should": [{"key": "source", "equals": "book 3"}], "must": [{"key": "metadata.page", "equals": 59}]}, {59}),
        ({"must": [{"key": "metadata.page", "equals": "7"}]}, set()),
        ({"must": [{"key": "metadata.none", "equals": 7}]}, set()),
        ({"must": [{"key": "metadata.page", "in": []}]}, set()),
        ({"must_not": [{"key": "metadata.none", "range": {"gte": "1900-01-01"}}]}, set(range(60))),
    ],
)  # fmt: skip
def test_only_what_passes_is_searched(server, filters, expected):
    answer = ask(server, filters)
    assert pages(answer) == expected
    assert answer.json()["index"]["searched"] == len(expected)


@pytest.mark.parametrize("score", ["relatif", "influence", "cosine"])
@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_a_filtered_ranking_is_the_whole_ranking_without_the_others(server, score, sign):
    filters = {"must_not": [{"key": "source", "equals": "book 2"}]}
    everything = ask(server, None, score=score, sign=sign).json()["data"]
    some = ask(server, filters, score=score, sign=sign, top_k=9).json()["data"]
    expected = [document for document in everything if document["source"] != "book 2"][:9]
    assert [one["document_id"] for one in some] == [one["document_id"] for one in expected]
    assert [one["score"] for one in some] == pytest.approx([one["score"] for one in expected], rel=1e-4)
    assert some[0]["percentile"] == pytest.approx(100 * 44 / 45 if sign == "positive" else 0)


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ({"must": [{"key": UNTOLD, "equals": 1}]}, "A key is `source`, `document_id`, or `metadata.` and a name"),
        ({"must": [{"key": "metadata", "equals": 1}]}, "A key is `source`"),
        ({"must": [{"key": "metadata.a..b", "equals": 1}]}, "A key is `source`"),
        ({"must": [{"key": "metadata" + ".a" * 9, "equals": 1}]}, "at most 8 of them"),
        ({"must": [{"key": "metadata.a"}]}, "exactly one of `equals`, `in` and `range`"),
        ({"must": [{"key": "metadata.a", "equals": 1, "in": [1]}]}, "exactly one of `equals`, `in` and `range`"),
        ({"must": [{"key": "metadata.a", "equals": {UNTOLD: 1}}]}, "A filter compares with a text, a number"),
        ({"must": [{"key": "metadata.a", "in": [[UNTOLD]]}]}, "A filter compares with a text, a number"),
        ({"must": [{"key": "metadata.a", "equals": 2**63}]}, "an integer has at most 64 bits"),
        ({"must": [{"key": "metadata.a", "range": {}}]}, "A range has one bound or more"),
        ({"must": [{"key": "metadata.a", "range": {"gt": 1, "lt": UNTOLD}}]}, "all of them numbers or all of them"),
        ({"must": [{"key": "metadata.a", "range": {"gt": True}}]}, "The bounds of a range are numbers or texts"),
        ({"must": [{"key": "source", "in": [UNTOLD] * 257}]}, "at most 256 items"),
        ({"must": [{"key": "source", "equals": UNTOLD}] * 65}, "at most 64 items"),
        ({"must_not": [{"key": "source", "matches": UNTOLD}]}, "`filters.must_not.0.matches` is not known here."),
        ({"any": []}, "`filters.any` is not known here."),
        ([UNTOLD], "`filters`"),
    ],
)
def test_a_filter_that_cannot_be_meant(server, filters, sentence):
    answer = ask(server, filters)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert UNTOLD not in answer.text


def test_an_infinite_bound_is_refused(server):
    body = b'{"prompt": "", "response": "x", "filters": {"must": [{"key": "metadata.a", "range": {"gt": 1e999}}]}}'
    answer = server.client.post("/v1/attribute", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_value")
