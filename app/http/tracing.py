"""OpenTelemetry tracing: one span per request, exported by OTLP over HTTP.

FastAPI's own spans cover only requests that reach its routes, which excludes predictions, rejected keys and unknown
methods. The span is therefore created in front of everything else. Only the class Tracing imports the SDK.
"""

import socket
import threading
from contextvars import ContextVar
from copy import copy
from typing import Any

from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.context import SAMPLED_TRACE, TRACE_ID
from app.http.auth import OPEN_PATHS
from app.http.front import METHODS, PREDICT
from app.settings import Settings

FLUSH_SECONDS = 2  # time limit for exporting the last spans on shutdown
FAILURES = range(500, 600)
LONGEST_ATTRIBUTE = 256  # characters; the client chooses the path

# Attributes of the current request, which are added to its span at the end; None if the span is not recorded.
_NOTES: ContextVar[dict[str, str | float] | None] = ContextVar("notes", default=None)


def note(name: str, value: float) -> None:
    """Add an attribute to the span of the current request, if it has one. Never pass a value of the payload."""
    if (notes := _NOTES.get()) is not None:
        notes[f"model_service.{name}"] = value


class Tracing:
    """ASGI middleware that traces all requests except probes and scrapes.

    OpenTelemetry's own variables set endpoint, headers, certificates, sampler and batches. A thread exports the spans
    from a bounded queue. If the queue is full or the collector fails, spans are lost, but requests are not affected.

    Args:
        app: Application to trace.
        settings: Name of the service and path prefix.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._app = app
        self._root = settings.root_path
        self._untraced = frozenset(settings.root_path + path for path in OPEN_PATHS)
        pod = {"service.instance.id": socket.gethostname()}
        ours = Resource.create({"service.name": settings.app_name, "service.version": __version__} | pod)
        self._provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()),  # environment variables take precedence
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attribute_length=LONGEST_ATTRIBUTE),
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("model-service", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def over(self, app: ASGIApp) -> "Tracing":
        """Return the same tracing for another application."""
        other = copy(self)
        other._app = app
        return other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace the request, and pass it on."""
        if scope["type"] != "http" or scope["path"] in self._untraced:
            await self._app(scope, receive, send)
            return
        headers = _trace_headers(scope)
        parent = self._propagator.extract(headers) if headers else None
        span = self._tracer.start_span(_method(scope, "HTTP"), parent, SpanKind.SERVER)
        TRACE_ID.set(format(span.get_span_context().trace_id, "032x"))
        if span.is_recording():
            await self._record(span, scope, receive, send)
        else:  # not sampled, but its log lines contain the trace ID
            await self._app(scope, receive, send)

    async def _record(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and record the result on the span by OpenTelemetry's semantic conventions."""
        notes: dict[str, str | float] = {
            "http.request.method": _method(scope, "_OTHER"),
            "http.response.status_code": 500,
            "url.scheme": scope["scheme"],
            "url.path": scope["path"],
            "network.protocol.version": scope["http_version"],
        }
        _NOTES.set(notes)
        SAMPLED_TRACE.set(TRACE_ID.get())

        def send_noted(message: Message) -> Any:
            if message["type"] == "http.response.start":
                notes["http.response.status_code"] = message["status"]
            return send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            if route := self._route(scope):
                notes["http.route"] = route
                span.update_name(f"{_method(scope, 'HTTP')} {route}")
            if (status := notes["http.response.status_code"]) in FAILURES:  # 4xx is an error of the client
                notes["error.type"] = str(status)
                span.set_status(StatusCode.ERROR)
            span.set_attributes(notes.copy())  # the thread of a timed-out request may still add attributes
            span.end()

    def _route(self, scope: Scope) -> str:
        """Return the route of the request; empty for unknown paths, whose number is unlimited."""
        if scope["path"] == self._root + PREDICT:
            return PREDICT
        return getattr(scope.get("route"), "path", "")

    def close(self) -> None:
        """Export the waiting spans, for up to FLUSH_SECONDS."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)


def _method(scope: Scope, other: str) -> str:
    """Return the method if it is known, because span names must be a closed set."""
    return scope["method"] if scope["method"] in METHODS else other


def _trace_headers(scope: Scope) -> dict[str, str]:
    """Return the headers of W3C Trace Context."""
    names = (b"traceparent", b"tracestate")
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in names}
