"""OpenTelemetry, where it is asked for: one span a request, with where its time went; never what was said.

The exporter is OTLP over HTTP, set up by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT and the like).
"""

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from headwater.types import Timings
from headwater_indexer.errors import MissingPackage

if TYPE_CHECKING:
    from headwater_server.engine import Engine

_PROBES = "/livez,/readyz,/health,/metrics"
_HIDDEN = ("http.target", "http.url", "url.full", "url.path", "url.query", "http.user_agent", "user_agent.original")


def install(app: FastAPI, engine: "Engine") -> None:
    """Trace the application. Raises MissingPackage with what to install."""
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingPackage(
            "OpenTelemetry is not installed: pip install 'headwater[telemetry]', or leave out --opentelemetry"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "headwater"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def tell(timings: Timings) -> None:
        span = trace.get_current_span()
        for name, milliseconds in timings.model_dump().items():
            span.set_attribute(f"headwater.{name}_ms", milliseconds)

    engine.on_answer = tell
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        excluded_urls=_PROBES,
        server_request_hook=_hide,
        exclude_spans=["receive", "send"],
    )


def _hide(span: Any, scope: dict[str, Any]) -> None:
    """A path may name a document or hold anything; the route's template stands in `http.route`."""
    for name in _HIDDEN:
        span.set_attribute(name, "")
    span.update_name(scope["method"])
