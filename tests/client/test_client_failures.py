"""What a caller sees when the answer is an error, late, garbled or missing, and how often the server was asked."""

import socket
import time

import pytest

import headwater

QUESTION = {"prompt": "p", "response": "r"}


@pytest.mark.parametrize(
    ("status", "error", "times"),
    [
        (400, headwater.BadRequestError, 1),
        (401, headwater.AuthenticationError, 1),
        (403, headwater.PermissionDeniedError, 1),
        (404, headwater.NotFoundError, 1),
        (408, headwater.APIStatusError, 3),
        (409, headwater.ConflictError, 3),
        (413, headwater.PayloadTooLargeError, 1),
        (418, headwater.APIStatusError, 1),
        (422, headwater.UnprocessableEntityError, 1),
        (429, headwater.RateLimitError, 3),
        (500, headwater.InternalServerError, 3),
        (503, headwater.ServiceUnavailableError, 3),
        (504, headwater.GatewayTimeoutError, 3),
    ],
)
def test_each_status_has_its_error_and_temporary_ones_are_asked_again(server, ask, problem, status, error, times):
    body = problem(status, "No such thing: ask for another.", code="missing", param="index")
    server.reply(body, status=status, retry_after="0", X_Request_ID="req-9")
    with pytest.raises(error, match=rf"No such thing: ask for another\. \(HTTP {status}, request req-9\)") as caught:
        ask("attribute", **QUESTION)
    assert type(caught.value) is error
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (status, "missing", "index")
    assert caught.value.request_id == "req-9"
    assert caught.value.message == "No such thing: ask for another."
    assert len(server.asked) == times


def test_a_retry_that_succeeds_is_an_answer(server, ask, attribution, problem):
    server.reply(problem(429), status=429, retry_after="0")
    server.reply(problem(503), status=503, retry_after="0")
    server.reply(attribution)
    assert ask("attribute", **QUESTION).id == "attr_1"
    assert [asked.body for asked in server.asked] == [server.asked[0].body] * 3


def test_retry_after_is_waited_for(server, ask, attribution, problem):
    server.reply(problem(429), status=429, retry_after="1")
    server.reply(attribution)
    ask("attribute", **QUESTION)
    first, second = server.asked
    assert 1.0 <= second.at - first.at < 1.5


def test_a_dropped_connection_is_asked_again_after_a_pause(server, ask, attribution):
    server.hang_up()
    server.reply(attribution)
    ask("attribute", **QUESTION)
    first, second = server.asked
    assert 0.5 <= second.at - first.at < 1.5


def test_a_wait_beyond_two_minutes_is_the_callers_to_decide(server, ask, problem):
    server.reply(problem(429), status=429, retry_after="121")
    with pytest.raises(headwater.RateLimitError, match="queue is full") as caught:
        ask("attribute", **QUESTION)
    assert caught.value.retry_after == 121.0
    assert len(server.asked) == 1


def test_the_number_of_retries_is_an_option(server, ask, problem):
    server.reply(problem(500), status=500, retry_after="0")
    for retries in (0, 4):
        server.asked.clear()
        with pytest.raises(headwater.InternalServerError):
            ask("attribute", **QUESTION, options={"max_retries": retries})
        assert len(server.asked) == retries + 1


def test_health_is_asked_once(server, ask, problem):
    server.reply(problem(503, "The index is loading."), status=503)
    with pytest.raises(headwater.ServiceUnavailableError, match="The index is loading"):
        ask("health")
    assert len(server.asked) == 1


def test_a_late_answer_is_a_timeout(server, ask, attribution):
    server.reply(attribution, after=0.5)
    with pytest.raises(headwater.APITimeoutError, match="did not answer in time") as caught:
        ask("attribute", **QUESTION, options={"timeout": 0.1, "max_retries": 0})
    assert isinstance(caught.value, headwater.APIConnectionError)


def test_one_question_may_have_its_own_timeout(server, ask, attribution):
    server.reply(attribution, after=0.3)
    assert ask("attribute", **QUESTION, timeout=5.0, options={"timeout": 0.1, "max_retries": 0}).id == "attr_1"


def test_no_server_is_a_connection_error(ask):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(headwater.APIConnectionError, match=rf"No answer from {url}.*Is `headwater-serve` running"):
            ask("health", options={"base_url": url})


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"<html>proxy</html>", "did not answer with Attribution: the body: Invalid JSON"),
        (b'{"id": 3}', "did not answer with Attribution: id: Input should be a valid string"),
        (b"", "Is it a Headwater server"),
    ],
)
def test_an_answer_that_is_none_of_ours(server, ask, body, complaint):
    server.reply(body, X_Request_ID="req-3")
    with pytest.raises(headwater.APIResponseError, match=complaint) as caught:
        ask("attribute", **QUESTION)
    assert caught.value.request_id == "req-3"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>no</html>", r"/v1/attribute answered Not Found \(HTTP 404\)"),
        (b'{"detail": "Not Found here"}', r"Not Found here \(HTTP 404\)"),
        (b'{"detail": [{"loc": []}], "title": "Odd"}', r"Odd \(HTTP 404\)"),
        (b'{"error": {"message": "as OpenAI"}}', r"as OpenAI \(HTTP 404\)"),
        (b'[1, "\xff"]', "answered Not Found"),
    ],
)
def test_errors_of_other_servers_still_say_something(server, ask, body, message):
    server.reply(body, status=404)
    with pytest.raises(headwater.NotFoundError, match=message):
        ask("attribute", **QUESTION)


def test_a_redirect_is_not_followed_but_named(server, ask):
    server.reply(b"", status=308, Location="https://elsewhere.example/v1/attribute")
    with pytest.raises(headwater.APIStatusError, match=r"redirects to https://elsewhere\.example"):
        ask("attribute", **QUESTION)
    assert len(server.asked) == 1


def test_the_key_never_stands_in_an_error(server, ask, problem):
    server.reply(problem(401, "Unknown key."), status=401)
    with pytest.raises(headwater.AuthenticationError) as caught:
        ask("attribute", **QUESTION, options={"api_key": "hush-hush"})
    assert server.asked[0].headers["authorization"] == "Bearer hush-hush"
    assert "hush" not in f"{caught.value!s} {caught.value!r} {vars(caught.value)}"


def test_a_timeout_is_kept_though_the_server_stays_silent(server, ask):
    server.reply(b"", after=1.0)
    begun = time.monotonic()
    with pytest.raises(headwater.APITimeoutError):
        ask("health", timeout=0.1)
    assert time.monotonic() - begun < 0.8
