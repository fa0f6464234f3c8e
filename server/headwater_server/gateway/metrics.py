"""What Prometheus is told of the gateway: the upstream's failures and times, and what became of attributions."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class GatewayMetrics:
    """Beside the server's own: its http_requests count the gateway's requests by route and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failures = Counter(
            "headwater_upstream_failure",
            "Answers that the upstream did not give, or broke off, by the code of the error.",
            ["reason"],
            registry=registry,
        )
        self._statuses = Counter("headwater_upstream_answers", "Its answers.", ["status"], registry=registry)
        self._first = self._seconds("headwater_upstream_first_byte", "Until the upstream begins to answer.", registry)
        self._whole = self._seconds("headwater_upstream_answer", "Until its answer's last byte.", registry)
        self._attributions = Counter(
            "headwater_gateway_attributions",
            "Attributions that chats asked for: completed, unsupported_model, or the code of what went wrong.",
            ["status"],
            registry=registry,
        )

    def failed(self, reason: str) -> None:
        self._failures.labels(reason).inc()

    def answered(self, status: int, seconds: float) -> None:
        """The upstream has begun to answer."""
        self._statuses.labels(str(status)).inc()
        self._first.observe(seconds)

    def ended(self, seconds: float) -> None:
        """The upstream's answer is all there."""
        self._whole.observe(seconds)

    def attributed(self, status: str) -> None:
        self._attributions.labels(status).inc()

    def _seconds(self, name: str, documentation: str, registry: CollectorRegistry) -> Histogram:
        return Histogram(name, documentation, unit="seconds", buckets=_SECONDS, registry=registry)
