"""What happens to an index that is served: added documents are found after a reload, removed ones never again."""

import itertools
import json
import shutil

import pytest

from headwater_indexer.append import append_documents
from headwater_indexer.compact import compact
from headwater_indexer.conditions import parse_conditions
from headwater_indexer.index import Index
from headwater_indexer.remove import Unwanted, remove_documents

ADMINISTRATOR = "an-administrator-key"
ASKED = {"prompt": "The river", "response": " floods a lake"}


@pytest.fixture
def served(tmp_path, index_folder, live):
    """A copy of the index, and a server of it."""
    folder = shutil.copytree(index_folder, tmp_path / "i")
    server = live(
        lambda: Index.open(folder, device="cpu"), admin_keys=(ADMINISTRATOR,), api_keys=("a-reader-key-of-length",)
    )
    server.client.headers["Authorization"] = f"Bearer {ADMINISTRATOR}"
    return folder, server


def reload(server):
    answer = server.client.post("/v1/indexes/default/reload")
    assert answer.status_code == 200, answer.text
    return answer.json()


def found(server, **fields):
    answer = server.client.post("/attribute", json=ASKED | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_added_documents_are_found_after_a_reload(served, tmp_path):
    folder, server = served
    (tmp_path / "more.jsonl").write_text(
        "".join(
            json.dumps({"id": f"new/{n}", "text": f"The river floods a lake in {n}", "source": "new"}) + "\n"
            for n in range(5)
        )
    )
    append_documents(folder, [str(tmp_path / "more.jsonl")], device="cpu")
    assert found(server)["index"]["documents"] == 60
    assert reload(server)["documents"] == 65
    answer = found(server, top_k=65)
    assert answer["index"]["documents"] == 65
    assert {f"new/{n}" for n in range(5)} <= {document["document_id"] for document in answer["data"]}
    assert answer["data"][0]["document_id"].startswith("new/")
    assert server.client.get("/v1/documents/new/3").json()["text"] == "The river floods a lake in 3"
    alone = found(server, top_k=5, filters={"must": [{"key": "source", "equals": "new"}]})
    assert (alone["index"]["searched"], len(alone["data"])) == (5, 5)
    explained = server.client.post("/v1/explain", json=ASKED | {"document_ids": ["new/0", "river/7"]}).json()
    assert [document["document_id"] for document in explained["data"]] == ["new/0", "river/7"]


def test_removed_documents_are_never_returned_after_a_reload(served):
    folder, server = served
    unwanted = Unwanted(ids=["river/1"], sources=["book 2"], where=parse_conditions(["metadata.page>=50"]))
    remove_documents(folder, unwanted)
    assert found(server, top_k=60)["index"]["documents"] == 60  # until it reloads
    gone = {f"river/{n}" for n in range(60) if n == 1 or n % 4 == 2 or n >= 50}
    left = {f"river/{n}" for n in range(60)} - gone
    for change in (None, compact):
        if change is not None:
            change(folder)
            by_page = {"must": [{"key": "metadata.page", "range": {"gte": 10}}]}  # not asked before
            answer = found(server, top_k=5, filters=by_page)  # its files are deleted, and it goes on
            assert answer["index"]["searched"] == len([n for n in left if int(n[6:]) >= 10])
        assert reload(server)["documents"] == len(left)
        _is_nowhere(server, gone, left)


def _is_nowhere(server, gone, left):
    ways = [{"score": score} for score in ("relatif", "influence", "cosine")]
    ways += [{"method": "bm25"}, {"method": "hidden-states"}, {"rescore": len(left)}]
    ways += [{"filters": {"must": [{"key": "metadata.page", "range": {"gte": 0}}]}}]
    for way, sign in itertools.product(ways, ("positive", "negative")):
        if "method" in way and sign == "negative":
            continue
        answer = found(server, top_k=len(left), sign=sign, **way)
        assert {document["document_id"] for document in answer["data"]} == left, way
        assert answer["index"]["documents"] == answer["index"]["searched"] == len(left)
        assert all(0 <= document["percentile"] < 100 for document in answer["data"])
        assert "book 2" not in {source["source"] for source in answer["sources"]}
    for document_id in sorted(gone):
        assert server.client.get(f"/v1/documents/{document_id}").status_code == 404
        explained = server.client.post("/v1/explain", json=ASKED | {"document_ids": [document_id]})
        assert explained.status_code == 404
    assert server.client.post("/attribute", json=ASKED | {"top_k": len(left) + 1}).status_code == 422
    by_source = found(server, top_k=5, filters={"must": [{"key": "source", "equals": "book 2"}]})
    assert (by_source["data"], by_source["index"]["searched"]) == ([], 0)
