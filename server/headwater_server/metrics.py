"""What Prometheus is told. Labels are routes, statuses, reasons and names of indexes: never text, keys or ids."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headwater.types import Timings

if TYPE_CHECKING:
    from headwater_server.engine import Engine

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKENS = tuple(2**power for power in range(4, 18))


class Metrics:
    """What is counted of one server; another in the same process counts apart."""

    def __init__(self, engine: "Engine") -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Now(engine))
        self._requests = self._counter("http_requests", "HTTP requests.", "method", "route", "status")
        self._durations = self._seconds("http_request_duration", "Time until the last byte.", "method", "route")
        self._failures = self._counter(
            "headwater_request_failure", "Questions without an answer, by the code of the error.", "reason"
        )
        self._queue = self._seconds("headwater_queue_time", "Waiting for the model.")
        self._gradient = self._seconds("headwater_gradient_time", "A question's gradient, with its whole batch.")
        self._search = self._seconds("headwater_search_time", "Searching the index.")
        self._total = self._seconds("headwater_e2e_request_latency", "From a question's arrival to its answer.")
        self._batches = Histogram(
            "headwater_batch_tokens", "Tokens of a batch in the model.", buckets=_TOKENS, registry=self.registry
        )

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """An HTTP request was answered, or its client left (499)."""
        self._requests.labels(method, route, str(status)).inc()
        self._durations.labels(method, route).observe(seconds)

    def answered(self, timings: Timings) -> None:
        """A question was answered. Timings are in milliseconds, metrics in seconds."""
        self._queue.observe(timings.queue / 1000)
        self._gradient.observe(timings.gradient / 1000)
        self._search.observe(timings.search / 1000)
        self._total.observe(timings.total / 1000)

    def failed(self, reason: str) -> None:
        self._failures.labels(reason).inc()

    def batched(self, tokens: int) -> None:
        self._batches.observe(tokens)

    def render(self) -> bytes:
        """All of it in the text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def _seconds(self, name: str, documentation: str, *labels: str) -> Histogram:
        return Histogram(name, documentation, labels, unit="seconds", buckets=_SECONDS, registry=self.registry)


class _Now(Collector):
    """What holds at the moment of the scrape."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        engine = self._engine
        waiting, tokens = engine.queue.waiting
        yield _gauge("headwater_requests_running", "Questions in the model's hands.", engine.queue.running)
        yield _gauge("headwater_requests_waiting", "Questions waiting for the model.", waiting)
        yield _gauge("headwater_queue_tokens", "Tokens of the questions that wait.", tokens)
        yield _gauge("headwater_ready", "1 when questions are answered.", float(all(engine.checks().values())))
        documents = GaugeMetricFamily("headwater_index_documents", "Documents of each index.", labels=["index"])
        for name, index in engine.library.items():
            documents.add_metric([name], len(index.documents))
        yield documents


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=value)
