"""The gateway before an upstream that is a process of its own: well-behaved, slow, broken, or talking nonsense."""

import json
import socket
import time

import httpx2
import pytest

KEY = "a-key-of-enough-characters"
MODELS = ("twin", "without-done", "errors", "babbles", "several", "calls-tool")
SAID = "the river feeds the mill"


@pytest.fixture
def gateway(twin, live, upstream):
    def start(index=None, **settings):
        settings = {"upstream": upstream, "upstream_model": MODELS, **settings}
        return live(index or twin(), **settings)

    return start


def chat(server, model="twin", *, attribution=None, path="/v1/chat/completions", headers=None, **fields):
    body = {"model": model, "messages": [{"role": "user", "content": "Who?"}], **fields}
    if attribution is not None:
        body["attribution"] = attribution
    return server.client.post(path, json=body, headers=headers)


def events(answer):
    return [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]


@pytest.fixture
def twin(twin):
    class ChattingTwin(twin):
        def encode_messages(self, messages, response, *more, **named):
            return self.encode(" ".join(message["content"] for message in messages), response, *more, **named)

    return ChattingTwin


def test_without_an_upstream_there_is_no_gateway(twin, live):
    server = live(twin())
    assert chat(server).status_code == 404
    assert "/v1/chat/completions" not in server.client.get("/openapi.json").json()["paths"]


def test_a_whole_answer_carries_its_attribution_and_is_otherwise_untouched(gateway, upstream):
    server = gateway()
    answer = chat(server, attribution={"top_k": 3})
    attribution = answer.json()["attribution"]
    assert (attribution["status"], len(attribution["data"])) == ("completed", 3)
    assert answer.headers["x-attribution-id"] == attribution["id"]
    plain = httpx2.post(f"{upstream}/v1/chat/completions", json={"model": "twin", "messages": []}, trust_env=False)
    assert answer.content.startswith(plain.content[:-1] + b',"attribution":')
    kept = server.client.get(f"/v1/attributions/{attribution['id']}").json()
    assert kept == {name: value for name, value in attribution.items() if name != "status"}
    asked = {"prompt": "Who?", "response": SAID, "top_k": 3}
    expected = server.client.post("/v1/attribute", json=asked).json()
    assert [hit["document_id"] for hit in kept["data"]] == [hit["document_id"] for hit in expected["data"]]


def test_a_stream_passes_byte_for_byte_then_attribution_then_done(gateway):
    server = gateway()
    plain = chat(server, stream=True)
    answer = chat(server, stream=True, attribution={"top_k": 2})
    tokens = plain.content.removesuffix(b"data: [DONE]\n\n")
    assert plain.content != tokens
    assert answer.content.startswith(tokens)
    last, done = events(answer)[-2:]
    assert done == "[DONE]"
    chunk = json.loads(last)
    assert chunk["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert (chunk["id"], chunk["attribution"]["status"]) == ("chat-1", "completed")
    assert answer.headers["x-attribution-id"] == chunk["attribution"]["id"]
    assert "x-attribution-id" not in plain.headers


def test_an_upstream_that_ends_without_done_gets_one(gateway):
    chunk, done = events(chat(gateway(), "without-done", stream=True, attribution={}))[-2:]
    assert (json.loads(chunk)["attribution"]["status"], done) == ("completed", "[DONE]")


def test_completions_are_attributed_too(gateway):
    answer = chat(gateway(), path="/v1/completions", prompt="Once", attribution={"top_k": 1})
    assert answer.json()["attribution"]["status"] == "completed"


def test_the_request_goes_untouched_but_for_attribution_and_keys(gateway):
    server = gateway(upstream_key="upstream-key", api_keys=(KEY,))
    body = '{ "model":"echo", "attribution": {"top_k": 2},"x": 1.0e2,  "messages":[]}'
    headers = {"Authorization": f"Bearer {KEY}", "Cookie": "c=1", "Connection": "X-Hop", "X-Hop": "1", "X-Mine": "2"}
    kind = {"Content-Type": "application/json"}
    sent = server.client.post("/v1/chat/completions", content=body, headers={**headers, **kind})
    echo = sent.json()
    assert json.loads(echo["body"]) == {"model": "echo", "x": 100.0, "messages": []}
    assert '"x": 1.0e2' in echo["body"]
    assert echo["headers"]["authorization"] == "Bearer upstream-key"
    assert echo["headers"]["x-mine"] == "2"
    assert not {"cookie", "x-hop"} & echo["headers"].keys()
    assert KEY not in sent.text
    assert "set-cookie" not in sent.headers
    plain = '{ "model":"echo",  "n":1 }'
    assert (
        server.client.post("/v1/chat/completions", content=plain, headers={**headers, **kind}).json()["body"] == plain
    )


def test_the_callers_key_goes_only_where_that_is_configured(gateway):
    headers = {"Authorization": "Bearer mine"}
    assert "authorization" not in chat(gateway(), "echo", headers=headers).json()["headers"]
    forwarded = chat(gateway(upstream_forward_key=True), "echo", headers=headers).json()
    assert forwarded["headers"]["authorization"] == "Bearer mine"


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_errors_of_the_upstream_pass_through(gateway, status):
    answer = chat(gateway(), str(status), attribution={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "c")
    assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("silent", 504, "upstream_timeout"),
        ("hang-up", 502, "upstream_broke_off"),
        ("redirect", 502, "upstream_redirects"),
        ("401", 502, "upstream_refuses_key"),
    ],
)
def test_an_upstream_that_fails_is_a_typed_error(gateway, model, status, code):
    answer = chat(gateway(upstream_timeout=0.5), model, attribution={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_an_upstream_that_is_not_there_is_a_typed_error(gateway):
    answer = chat(gateway(upstream="http://127.0.0.1:1"), attribution={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")


@pytest.mark.parametrize(("model", "code"), [("dies", "upstream_broke_off"), ("stalls", "upstream_timeout")])
def test_a_stream_that_breaks_off_breaks_off_here_too_with_the_reason(gateway, model, code):
    server = gateway(upstream_timeout=0.5)
    parts = []
    body = {"model": model, "messages": [], "stream": True, "attribution": {}}
    with server.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        with pytest.raises(httpx2.RemoteProtocolError):
            parts.extend(answer.iter_raw())
        received = b"".join(parts)
    assert b'"river "' in received
    assert json.loads(received.split(b"data: ")[-1])["error"]["code"] == code
    assert b"[DONE]" not in received
    kept = server.client.get(f"/v1/attributions/{answer.headers['x-attribution-id']}")
    assert kept.json()["error"]["code"] == code


@pytest.mark.parametrize(("model", "code"), [("errors", "upstream_error"), ("babbles", "unreadable")])
def test_a_stream_with_errors_or_garbage_passes_and_its_attribution_fails(gateway, model, code):
    server = gateway()
    plain = chat(server, model, stream=True).content.removesuffix(b"data: [DONE]\n\n")
    answer = chat(server, model, stream=True, attribution={})
    assert answer.content.startswith(plain)
    chunk, done = events(answer)[-2:]
    attribution = json.loads(chunk)["attribution"]
    assert (attribution["status"], attribution["error"]["code"], done) == ("failed", code, "[DONE]")


def test_garbage_for_a_whole_answer_passes_as_it_is(gateway):
    server = gateway()
    answer = chat(server, "garbage", attribution={})
    assert (answer.status_code, answer.content) == (200, b"\x00\xff not json")
    kept = server.client.get(f"/v1/attributions/{answer.headers['x-attribution-id']}")
    assert kept.json()["error"]["code"] == "unreadable"


def test_another_model_is_not_attributed(gateway):
    attribution = chat(gateway(), "other", attribution={}).json()["attribution"]
    assert (attribution["status"], attribution["error"]["code"]) == ("unsupported_model", "unsupported_model")


@pytest.mark.parametrize(
    ("fields", "options", "code"),
    [
        ({"tools": [{"type": "function"}]}, {}, "unsupported_request"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, {}, "unsupported_request"),
        ({}, {"index": "none"}, "index_not_found"),
        ({}, {"top_k": 41}, "top_k_above_documents"),
    ],
)
def test_what_cannot_be_attributed_fails_without_failing_the_chat(gateway, fields, options, code):
    answer = chat(gateway(), attribution=options, **fields)
    assert answer.json()["choices"][0]["message"]["content"] == SAID
    attribution = answer.json()["attribution"]
    assert (attribution["status"], attribution["error"]["code"]) == ("failed", code)


def test_a_late_attribution_fails_and_the_chat_does_not(gateway, twin):
    slow = twin(before=lambda pairs: time.sleep(1.5) if pairs[0].prompt_tokens else None)
    began = time.monotonic()
    answer = chat(gateway(slow, attribution_timeout=0.2), stream=True, attribution={})
    chunk, done = events(answer)[-2:]
    assert (json.loads(chunk)["attribution"]["error"]["code"], done) == ("deadline_passed", "[DONE]")
    assert time.monotonic() - began < 1.4


@pytest.mark.parametrize(
    ("options", "code"), [({"top_k": 0}, "invalid_value"), ({"topk": 1}, "unknown_field"), (7, "invalid_value")]
)
def test_options_that_cannot_be_meant_are_refused(gateway, options, code):
    refused = chat(gateway(), attribution=options)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, code)


def test_a_client_that_leaves_ends_its_attribution(gateway, wait_until):
    server = gateway(upstream_timeout=10)
    body = json.dumps({"model": "stalls", "messages": [], "stream": True, "attribution": {}}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with socket.create_connection(server.address, timeout=10) as leaving:
        leaving.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        started = leaving.recv(4096).decode()
    identity = next(line for line in started.split("\r\n") if line.lower().startswith("x-attribution-id")).split()[1]
    assert server.client.get(f"/v1/attributions/{identity}").json()["error"]["code"] == "chat_ended"


def test_models_are_the_upstreams(gateway):
    assert gateway().client.get("/v1/models").json()["data"][0]["id"] == "twin"


def test_the_gateway_is_described(gateway):
    api = gateway().client.get("/openapi.json").json()
    declared = set(api["paths"]["/v1/chat/completions"]["post"]["responses"])
    assert {"200", "400", "401", "408", "413", "415", "422", "500", "502", "503", "504", "4XX", "5XX"} <= declared


def test_what_the_gateway_does_is_counted(gateway):
    server = gateway(attribution_timeout=5)
    assert chat(server, attribution={}).status_code == 200
    assert chat(server, attribution={"top_k": 41}).status_code == 200
    assert chat(server, "impostor", stream=True, attribution={}).status_code == 200
    assert chat(server, "503").status_code == 503
    assert chat(server, "hang-up").status_code == 502
    with pytest.raises(httpx2.RemoteProtocolError):
        chat(server, "dies", stream=True, attribution={})
    told = server.client.get("/metrics").text.splitlines()
    for line in (
        'http_requests_total{method="POST",route="/v1/chat/completions",status="502"} 1.0',
        'headwater_upstream_answers_total{status="200"} 4.0',
        'headwater_upstream_answers_total{status="503"} 1.0',
        'headwater_upstream_failure_total{reason="upstream_broke_off"} 2.0',
        "headwater_upstream_first_byte_seconds_count 5.0",
        "headwater_upstream_answer_seconds_count 4.0",
        'headwater_gateway_attributions_total{status="completed"} 1.0',
        'headwater_gateway_attributions_total{status="top_k_above_documents"} 1.0',
        'headwater_gateway_attributions_total{status="unsupported_model"} 1.0',
        'headwater_gateway_attributions_total{status="upstream_broke_off"} 1.0',
    ):
        assert line in told, line


def test_of_several_choices_the_first_is_attributed_and_all_pass(gateway):
    whole = chat(gateway(), "several", n=2, attribution={}).json()
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["something else", SAID]
    alone = chat(gateway(), attribution={}).json()["attribution"]
    assert whole["attribution"]["status"] == "completed"
    assert whole["attribution"]["usage"] == alone["usage"]
    assert [one["score"] for one in whole["attribution"]["data"]] == [one["score"] for one in alone["data"]]


def test_an_answer_that_calls_a_tool_has_no_text_to_attribute(gateway):
    answer = chat(gateway(), "calls-tool", attribution={}).json()
    assert answer["choices"][0]["message"]["tool_calls"]
    assert (answer["attribution"]["status"], answer["attribution"]["error"]["code"]) == ("failed", "empty_response")
