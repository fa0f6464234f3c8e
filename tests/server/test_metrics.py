"""What Prometheus is told: counts and times by route and reason, and nothing of what was said."""

import re
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.parser import text_string_to_metric_families


def scrape(server):
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_answers_and_failures_are_counted(twin, live):
    server = live(twin())
    for _ in range(3):
        server.ask("some words")
    server.ask("some words", top_k=41)
    server.ask("some words", index="none")
    server.ask("", prompt="never read by the engine")
    told = scrape(server)
    asked = [("method", "POST"), ("route", "/attribute")]
    assert told["http_requests_total", *asked, ("status", "200")] == 3
    assert told["http_requests_total", *asked, ("status", "422")] == 2
    assert told["http_request_duration_seconds_count", *asked] == 6
    assert told["headwater_request_failure_total", ("reason", "top_k_above_documents")] == 1
    assert told["headwater_request_failure_total", ("reason", "index_not_found")] == 1
    for name in ("queue_time_seconds", "gradient_time_seconds", "search_time_seconds", "e2e_request_latency_seconds"):
        assert told[(f"headwater_{name}_count",)] == 3
    assert (told[("headwater_batch_tokens_count",)], told[("headwater_batch_tokens_sum",)]) == (3, 6)
    assert told["headwater_index_documents", ("index", "default")] == 40
    assert told[("headwater_ready",)] == 1
    assert told[("headwater_requests_running",)] == told[("headwater_requests_waiting",)] == 0


def test_what_waits_and_runs_is_told(twin, live, wait_until):
    import threading

    entered, go_on = threading.Event(), threading.Event()

    def before(pairs):
        if sum(map(ord, "held")) in pairs[0].input_ids:
            entered.set()
            assert go_on.wait(20)

    server = live(twin(before=before))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.ask, "held")
        assert entered.wait(10)
        second = pool.submit(server.ask, "four words that wait")
        wait_until(lambda: server.engine.queue.waiting[0] == 1)
        told = scrape(server)
        go_on.set()
        assert first.result().status_code == second.result().status_code == 200
    assert told[("headwater_requests_running",)] == 1
    assert told[("headwater_requests_waiting",)] == 1
    assert told[("headwater_queue_tokens",)] == 4


def test_labels_are_bounded_and_tell_nothing(twin, live):
    server = live(twin())
    for path in ("/v1/documents/secret-id", "/secret-path", "/v1/indexes/secret-name", "/page/secret-file"):
        server.client.get(path)
    for method in ("SECRETMETHOD", "PROPFIND"):  # one that is no HTTP, and one that no route has
        server.client.request(method, "/attribute")
    server.ask("secret-response", prompt="secret-prompt", index="secret-index")
    text = server.client.get("/metrics").text
    assert "secret" not in text.lower()
    assert "propfind" not in text.lower()
    assert 'route="unmatched"' in text
    assert 'method="other"' in text
    assert set(re.findall(r'route="([^"]*)"', text)) <= {
        "/v1/documents/{document_id}", "/v1/indexes/{name}", "unmatched", "/page", "/attribute"
    }  # fmt: skip


def test_metrics_want_a_key_as_all_else(twin, live):
    assert live(twin(), api_keys=("a-key-of-enough-characters",)).client.get("/metrics").status_code == 401


def test_a_question_of_more_tokens_than_are_taken_is_refused(twin, live):
    server = live(twin(), max_request_tokens=5)
    assert server.ask("one two three", prompt="four five").status_code == 200
    refused = server.ask("one two three", prompt="four five six")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "too_long")
    assert "6 tokens; this server takes 5" in refused.json()["detail"]
