"""Each question as it travels, and each answer as it comes back, with both clients against a real socket."""

import inspect

import httpx2
import pytest

from headwater import AsyncClient, AttributeRequest, Client, Condition, Filters, Message


def test_attribute_asks_and_answers(server, ask, attribution):
    server.reply(attribution, X_Request_ID="req-7")
    answer = ask("attribute", prompt="To be,", response=" or not", top_k=2, sign="negative", include=["text"])
    assert server.asked[0].method == "POST"
    assert server.asked[0].path == "/v1/attribute"
    assert server.asked[0].headers["content-type"] == "application/json"
    assert server.asked[0].json == {
        "prompt": "To be,",
        "response": " or not",
        "top_k": 2,
        "index": "default",
        "score": "relatif",
        "sign": "negative",
        "include": ["text"],
    }
    assert [(hit.rank, hit.document_id, hit.score) for hit in answer.data] == [(1, "d1", 12.4), (2, "d2", 3.1)]
    assert answer.sources[1].source is None
    assert answer.request_id == "req-7"


def test_options_travel_only_where_they_are_given(server, ask, attribution):
    server.reply(attribution)
    filters = Filters(must=[Condition(key="source", one_of=["a", "b"])], should=[])
    for given in (filters, {"must": [{"key": "source", "in": ["a", "b"]}], "should": []}):
        ask(
            "attribute",
            prompt="p",
            response="a word",
            span=(2, 6),
            filters=given,
            rescore=50,
            refine=2,
            method="influence",
        )
        sent = server.asked[-1].json
        assert sent["span"] == {"start": 2, "stop": 6}
        assert sent["filters"] == {"must": [{"key": "source", "in": ["a", "b"]}], "should": []}
        assert (sent["rescore"], sent["refine"], sent["method"]) == (50, 2, "influence")


def test_a_batch_has_an_answer_or_an_error_for_each(server, ask, attribution):
    error = {"message": "Too long.", "type": "invalid_request_error", "code": "too_long", "param": "response"}
    server.reply(
        {
            "object": "list",
            "data": [
                {"position": 0, "status": 200, "attribution": attribution},
                {"position": 1, "status": 422, "error": error},
            ],
        }
    )
    good, bad = ask(
        "attribute_batch", [{"prompt": "p", "response": "r"}, AttributeRequest(prompt="", response="x")]
    ).data
    assert (server.asked[0].method, server.asked[0].path) == ("POST", "/v1/attribute/batch")
    assert server.asked[0].json == {"questions": [{"prompt": "p", "response": "r"}, {"prompt": "", "response": "x"}]}
    assert good.attribution.data[0].document_id == "d1"
    assert (bad.attribution, bad.status, bad.error.code) == (None, 422, "too_long")
    with pytest.raises(ValueError, match="at least 1 item"):
        ask("attribute_batch", [])


def test_explain_and_reload_ask_and_answer(server, ask, attribution, index_info):
    token = {"text": " be", "start": 2, "stop": 5, "influence": 0.7}
    explained = {"document_id": "d1", "score": 0.7, "document": [token], "response": [token]}
    parts = {name: attribution[name] for name in ("model", "index", "usage", "timings_ms")}
    server.reply({"object": "explanation", **parts, "data": [explained]})
    server.reply(index_info)
    answer = ask("explain", prompt="To", response=" be", document_ids=["d1"])
    assert server.asked[0].json == {"prompt": "To", "response": " be", "index": "default", "document_ids": ["d1"]}
    assert answer.data[0].response[0].influence == 0.7
    assert ask("reload", "default").name == "default"
    assert (server.asked[1].method, server.asked[1].path) == ("POST", "/v1/indexes/default/reload")


def test_an_attribution_of_a_chat_is_asked_for_by_its_id(server, ask, attribution):
    server.reply(attribution, X_Request_ID="req-8")
    answer = ask("attribution", "attr_1")
    assert (server.asked[0].method, server.asked[0].path) == ("GET", "/v1/attributions/attr_1")
    assert (answer.id, answer.request_id) == ("attr_1", "req-8")


def test_messages_may_be_mappings_or_messages(server, ask, attribution):
    server.reply(attribution)
    messages = [{"role": "system", "content": "Be brief."}, Message(role="user", content="Who?")]
    ask("attribute", messages=messages, response="Me.")
    assert server.asked[0].json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
    ]
    assert "prompt" not in server.asked[0].json


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"response": "x"}, "exactly one of `prompt` and `messages`"),
        ({"response": "x", "prompt": "p", "messages": [{"role": "user", "content": "q"}]}, "exactly one"),
        ({"response": "", "prompt": "p"}, "at least 1 character"),
        ({"response": "x", "prompt": "p", "top_k": 0}, "greater than or equal to 1"),
        ({"response": "x", "prompt": "p", "top_k": 1001}, "less than or equal to 1000"),
        ({"response": "x", "prompt": "p", "index": "../other"}, "match pattern"),
        ({"response": "x", "prompt": "p", "score": "best"}, "'relatif', 'influence' or 'cosine'"),
        ({"response": "x", "messages": [{"role": "user", "content": "q", "name": "n"}]}, "Extra inputs"),
    ],
)
def test_a_question_that_cannot_be_asked_is_not_sent(server, ask, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        ask("attribute", **arguments)
    assert server.asked == []


@pytest.mark.parametrize(
    ("id", "path"),
    [
        ("a/b?c", "/v1/documents/a%2Fb%3Fc?index=default"),
        ("ä %#", "/v1/documents/%C3%A4%20%25%23?index=default"),
        ("..", "/v1/documents/%2E%2E?index=default"),
    ],
)
def test_document_ids_are_percent_encoded(server, ask, document, id, path):
    server.reply(document)
    assert ask("document", id).metadata == {"year": 1603}
    assert server.asked[0].path == path


def test_an_empty_id_is_not_looked_up(server, ask):
    with pytest.raises(ValueError, match="empty name or id"):
        ask("document", "")
    assert server.asked == []


def test_indexes_index_and_health(server, ask, index_info):
    server.reply({"object": "list", "data": [index_info]})
    server.reply(index_info)
    server.reply({"status": "ok"})
    assert ask("indexes").data[0].method.hessian.damping == 0.1
    assert ask("index", "default").model.revision == "607a30d7"
    assert ask("health").status == "ok"
    assert [asked.path for asked in server.asked] == ["/v1/indexes", "/v1/indexes/default", "/health"]


def test_fields_of_a_newer_server_are_ignored(server, ask, attribution):
    attribution["new"] = attribution["data"][0]["new"] = attribution["usage"]["new"] = {"deep": [1]}
    server.reply(attribution)
    answer = ask("attribute", prompt="p", response="r")
    assert answer.data[0].document_id == "d1"
    assert not hasattr(answer, "new")


def test_the_key_and_address_come_from_the_environment(server, ask, monkeypatch):
    server.reply({"status": "ok"})
    monkeypatch.setenv("HEADWATER_BASE_URL", server.url + "/below/")
    monkeypatch.setenv("HEADWATER_API_KEY", "secret\n")
    ask("health", options={"base_url": None})
    assert server.asked[0].path == "/below/health"
    assert server.asked[0].headers["authorization"] == "Bearer secret"
    assert server.asked[0].headers["user-agent"].startswith("headwater-python/")


def test_an_argument_wins_over_the_environment(server, ask, monkeypatch):
    server.reply({"status": "ok"})
    monkeypatch.setenv("HEADWATER_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HEADWATER_API_KEY", "secret")
    ask("health", options={"api_key": ""})
    assert "authorization" not in server.asked[0].headers


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(server, ask, monkeypatch):
    server.reply({"status": "ok"})
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ask("health").status == "ok"


def test_a_callers_http_client_is_used_and_left_open(server):
    server.reply({"status": "ok"})
    with httpx2.Client(headers={"X-Team": "blue"}) as http:
        with Client(server.url, http_client=http) as client:
            client.health()
        assert not http.is_closed
    assert server.asked[0].headers["x-team"] == "blue"


def test_an_own_http_client_is_closed_with_the_client(server):
    with Client(server.url) as client:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        client.health()


def test_both_clients_ask_the_same_questions():
    for name in ("attribute", "document", "indexes", "index", "health"):
        method, awaitable = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.signature(method) == inspect.signature(awaitable)
        assert method.__doc__
        assert method.__doc__ == awaitable.__doc__
        assert inspect.iscoroutinefunction(awaitable)
        assert not inspect.iscoroutinefunction(method)
