"""The SDK asks a real server for everything that it can ask."""

from urllib.parse import unquote

import pytest

from headwater import Client, UnprocessableEntityError, calls


@pytest.fixture(scope="module")
def client(real_live):
    with Client(str(real_live.client.base_url)) as client:
        yield client


PAIR = {"prompt": "The river", "response": " floods a lake"}


def test_filters_span_rescoring_and_baselines(client):
    filters = {"must": [{"key": "metadata.page", "range": {"gte": 10, "lt": 20}}]}
    answer = client.attribute(**PAIR, span=(1, 7), filters=filters, rescore=10, top_k=4)
    assert {10 <= document.metadata["page"] < 20 for document in answer.data} == {True}
    assert (answer.index.searched, answer.method.rescored) == (10, 10)
    assert answer.usage.counted_tokens < answer.usage.response_tokens
    assert client.attribute(**PAIR, method="bm25").method.score == "bm25"


def test_a_batch_and_an_explanation(client):
    good, bad = client.attribute_batch([PAIR, PAIR | {"response": " x" * 900}]).data
    assert good.attribution.data[0].rank == 1
    assert (bad.status, bad.error.code) == (422, "too_long")
    [explained] = client.explain(**PAIR, document_ids=["river/3"]).data
    assert sum(token.influence for token in explained.document) == pytest.approx(explained.score, rel=1e-2)
    with pytest.raises(UnprocessableEntityError, match="no token"):
        client.explain(prompt="", response="x", document_ids=["river/3"], span=(0, 1))


def test_an_answer_can_be_had_again(client):
    answer = client.attribute(**PAIR, top_k=2)
    assert client.attribution(answer.id).model_dump() == answer.model_dump()


def test_the_sdk_asks_every_endpoint_that_is_not_the_operators_own(real_live):
    api = real_live.client.get("/openapi.json").json()["paths"]
    wanted = {
        (method.upper(), path)
        for path, operations in api.items()
        for method, operation in operations.items()
        if operation["tags"] != ["operations"] and path != "/attribute"  # the short name of /v1/attribute
    }
    asked = [
        calls.attribute(**PAIR),
        calls.attribute_batch([PAIR]),
        calls.explain(**PAIR, document_ids=["x"]),
        calls.attribution("{attribution_id}"),
        calls.document("{document_id}"),
        calls.indexes(),
        calls.index("{name}"),
        calls.reload("{name}"),
    ]
    assert {(call.method, unquote(call.path.partition("?")[0])) for call in asked} == wanted
