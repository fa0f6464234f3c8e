"""The SDK asks a real server for everything that it can ask."""

import pytest

from headwater import Client, UnprocessableEntityError


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
