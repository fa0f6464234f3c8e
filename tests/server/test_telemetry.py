"""OpenTelemetry end to end: spans arrive at a collector, with times and routes, and without what was said."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from headwater_indexer.errors import MissingPackage
from headwater_server import telemetry


@pytest.fixture
def collector(monkeypatch):
    """What an OTLP collector is sent, as bytes."""
    received = []

    class Collect(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            """Silence."""

    server = HTTPServer(("127.0.0.1", 0), Collect)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def spans(received):
    for body in list(received):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                yield from scope.spans


def test_spans_arrive_without_what_was_said(twin, live, collector, wait_until):
    def before(pairs):
        if sum(map(ord, "broken")) in pairs[0].input_ids:
            raise FloatingPointError("secret text of the question")

    server = live(twin(before=before), opentelemetry=True)
    assert server.ask("broken secret").status_code == 500
    assert server.ask("secret words", prompt="secret prompt").status_code == 200
    server.client.get("/v1/documents/secret-id?index=secret-index", headers={"User-Agent": "secret agent"})
    server.client.get("/livez")
    wait_until(lambda: len(list(spans(collector))) >= 3)
    assert b"secret" not in b"".join(collector)
    found = {
        attribute.value.string_value: {one.key: one.value for one in span.attributes}
        for span in spans(collector)
        for attribute in span.attributes
        if attribute.key == "http.route"
    }
    assert found.keys() == {"/attribute", "/v1/documents/{document_id:path}"}
    assert found["/attribute"]["headwater.total_ms"].double_value > 0


def test_without_the_packages_a_sentence_says_what_to_install(twin, live, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.instrumentation.fastapi", None)
    with pytest.raises(MissingPackage, match=r"pip install 'headwater\[telemetry\]'"):
        telemetry.install(None, None)
