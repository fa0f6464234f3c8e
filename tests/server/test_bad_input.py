"""Questions that cannot be answered: status, code, field and sentence of each, and nothing of what was sent."""

import json

import pytest

GOOD = {"prompt": "the river", "response": " runs to the sea", "top_k": 3}
UNTOLD = "never-told-back"


@pytest.fixture(scope="module")
def server(real_live):
    return real_live


def post(server, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.client.post("/attribute", content=content, headers={"Content-Type": "application/json"} | headers)


def changed(**fields):
    """The good question with other fields; None takes a field out."""
    return {name: value for name, value in (GOOD | fields).items() if value is not None}


@pytest.mark.parametrize(
    ("body", "status", "code", "param", "sentence"),
    [
        (changed(response=None), 422, "missing_field", "response", "`response` is missing."),
        (changed(prompt=None), 422, "invalid_value", None, "Give exactly one of `prompt` and `messages`."),
        (
            changed(messages=[{"role": "user", "content": UNTOLD}]),
            422,
            "invalid_value",
            None,
            "Give exactly one of `prompt` and `messages`.",
        ),
        (changed(response=""), 422, "empty_response", "response", "at least 1 character"),
        (changed(response=f"{UNTOLD} " * 400), 422, "too_long", "response", "tokens"),
        (changed(response=UNTOLD * 20_000), 422, "too_long", "response", "300009 characters; this server takes 200000"),
        (changed(top_k=0), 422, "invalid_value", "top_k", "greater than or equal to 1"),
        (changed(top_k=-1), 422, "invalid_value", "top_k", "greater than or equal to 1"),
        (changed(top_k="3"), 422, "invalid_value", "top_k", "valid integer"),
        (changed(top_k=61), 422, "top_k_above_documents", "top_k", "holds 60 documents: ask for a top_k from 1 to 60"),
        (changed(span={"start": 3, "stop": 3}), 422, "invalid_value", "span", "a `start` below its `stop`"),
        (changed(span={"start": 0, "stop": 99}), 422, "invalid_value", None, "the response, which has 16 characters"),
        (changed(span={"start": -1, "stop": 3}), 422, "invalid_value", "span.start", "greater than or equal to 0"),
        (changed(span={"start": 0, "stop": "3"}), 422, "invalid_value", "span.stop", "valid integer"),
        (changed(prompt="", span={"start": 0, "stop": 1}), 422, "empty_span", "span", "holds no token"),
        (changed(topk=3), 422, "unknown_field", "topk", "`topk` is not known here."),
        (changed(**{UNTOLD * 9: 1}), 422, "unknown_field", None, "A field is not known here."),
        (changed(score="bm25"), 422, "invalid_value", "score", "'relatif', 'influence' or 'cosine'"),
        (changed(index="../etc"), 422, "invalid_value", "index", "match pattern"),
        (changed(index="other"), 404, "index_not_found", "index", "No index of that name is served."),
        (changed(prompt=None, messages=[]), 422, "invalid_value", "messages", "at least 1 item"),
        (
            changed(prompt=None, messages=[{"role": "x", "content": ""}]),
            422,
            "invalid_value",
            "messages.0.role",
            "user",
        ),
        ([GOOD], 422, "invalid_value", None, "The body"),
        (b"", 422, "missing_field", None, "The body is missing."),
        (b"null", 422, "invalid_value", None, "The body"),
        (b'{"response": "x"', 400, "invalid_json", None, "at line 1, column 17"),
        (b'{"response":\n never-told-back}', 400, "invalid_json", None, "Expecting value at line 2, column 2"),
        (b'{"top_k": NaN}', 400, "invalid_json", None, "NaN"),
        (b'{"top_k": ' + b"9" * 5000 + b"}", 400, "invalid_json", None, "too many digits"),
        (b'{"response": "\xff\xfe"}', 400, "invalid_json", None, "not UTF-8: byte 14"),
        (b"[" * 100_000, 400, "invalid_json", None, "nested too deeply"),
        (b'{"prompt": "", "response": "\\ud800"}', 422, "not_unicode", "response", "not valid Unicode"),
        (b'{"prompt": "\\ud800", "response": "x"}', 422, "not_unicode", "prompt", "not valid Unicode"),
        (
            b'{"messages": [{"role": "user", "content": "\\udfff"}], "response": "x"}',
            422,
            "not_unicode",
            "messages.0.content",
            "not valid Unicode",
        ),
        (
            b'{"prompt": "", "response": "x", "filters": {"must": [{"key": "metadata.a", "in": ["\\ud800"]}]}}',
            422,
            "not_unicode",
            "filters.must.0.in",
            "not valid Unicode",
        ),
        (b'{"prompt": "", "response": "x", "\\ud800": 1}', 422, "not_unicode", None, "not valid Unicode"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_bad_questions(server, body, status, code, param, sentence):
    answer = post(server, body)
    problem = answer.json()
    assert (answer.status_code, problem["error"]["code"], problem["error"]["param"]) == (status, code, param)
    assert sentence in problem["detail"]
    assert problem["error"]["message"] == problem["detail"]
    assert problem["status"] == status
    assert problem["instance"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert UNTOLD not in answer.text
    assert len(answer.content) < 1000


def test_over_long_input_is_refused_with_the_numbers(server):
    limit = server.engine.index("default").manifest.windows.max_length
    answer = post(server, changed(response=" river" * 5 * limit))
    assert answer.status_code == 422
    assert str(limit) in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_another_content_type_gets_415(server, kind):
    answer = post(server, GOOD, **{"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_a_charset_is_no_reason_to_refuse(server):
    assert post(server, GOOD, **{"Content-Type": "application/json; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/page/../settings.py", 404, "not_found"),
        ("GET", "/page/%2e%2e/settings.py", 404, "not_found"),
        ("GET", "/attribute", 405, "method_not_allowed"),
        ("DELETE", "/v1/indexes", 405, "method_not_allowed"),
        ("GET", "/v1/indexes/none", 404, "index_not_found"),
        ("GET", "/v1/indexes/UPPER", 422, "invalid_value"),
        ("GET", "/v1/documents/none", 404, "document_not_found"),
        ("GET", "/v1/documents/%00%ff", 404, "document_not_found"),
        ("GET", "/v1/documents/x?index=none", 404, "index_not_found"),
        ("GET", "/v1/documents/x?index=../..", 422, "invalid_value"),
    ],
)
def test_bad_routes(server, method, path, status, code):
    answer = server.client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
