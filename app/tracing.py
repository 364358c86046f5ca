"""Trace requests with OpenTelemetry: one span each, exported by OTLP over HTTP.

FastAPI has spans of its own, but only of what reaches its routes: predictions, refused keys and unheard-of methods
do not. So each request gets its span here, in front of all. The SDK is imported only by who makes a Tracing.
"""

import socket
import threading
from contextvars import ContextVar
from typing import Any

from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.auth import OPEN_PATHS
from app.front import METHODS, PREDICT
from app.logs import TRACE_ID
from app.settings import Settings

FLUSH_SECONDS = 2  # of the last spans; then the process ends without them
FAILURES = range(500, 600)
LONGEST_ATTRIBUTE = 256  # characters: the path is the caller's

# What is known of the current request, until it is put on its span in one go; None when nobody records it.
_NOTES: ContextVar[dict[str, str | float] | None] = ContextVar("notes", default=None)


def note(name: str, value: float) -> None:
    """Put a fact on the current request's span, if it has one. Never a value of the payload."""
    if (notes := _NOTES.get()) is not None:
        notes[f"model_service.{name}"] = value


class Tracing:
    """What stands in front of an application and traces its requests, but for probes and scrapes.

    Endpoint, headers, certificates, sampler and batches are set by OpenTelemetry's own variables. Spans wait in a
    bounded queue for a thread that exports them; what does not fit there, or is not taken, is lost, never a request.

    Args:
        app: answers.
        settings: name the service.
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
            resource=ours.merge(OTELResourceDetector().detect()),  # what the environment says wins
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attribute_length=LONGEST_ATTRIBUTE),
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("model-service", __version__)
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace the request, and hand it on."""
        if scope["type"] != "http" or scope["path"] in self._untraced:
            await self._app(scope, receive, send)
            return
        headers = _trace_headers(scope)
        parent = self._propagator.extract(headers) if headers else None
        span = self._tracer.start_span(_method(scope, "HTTP"), parent, SpanKind.SERVER)
        TRACE_ID.set(format(span.get_span_context().trace_id, "032x"))
        if span.is_recording():
            await self._record(span, scope, receive, send)
        else:  # not sampled; its log lines have its trace's id all the same
            await self._app(scope, receive, send)

    async def _record(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on the request and write on the span what became of it, by OpenTelemetry's conventions."""
        notes: dict[str, str | float] = {
            "http.request.method": _method(scope, "_OTHER"),
            "http.response.status_code": 500,
            "url.scheme": scope["scheme"],
            "url.path": scope["path"],
            "network.protocol.version": scope["http_version"],
        }
        _NOTES.set(notes)

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
            if (status := notes["http.response.status_code"]) in FAILURES:  # 4xx is the caller's error, not this span's
                notes["error.type"] = str(status)
                span.set_status(StatusCode.ERROR)
            span.set_attributes(notes.copy())  # a thread that nobody waits for any more may add to them
            span.end()

    def _route(self, scope: Scope) -> str:
        """Return which of the known paths was asked for; empty for any other, as they are endless."""
        if scope["path"] == self._root + PREDICT:
            return PREDICT
        return getattr(scope.get("route"), "path", "")

    def close(self) -> None:
        """Export what waits, but do not wait long for it."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)


def _method(scope: Scope, other: str) -> str:
    """Return the method if it is a known one: the names of spans are a closed set."""
    return scope["method"] if scope["method"] in METHODS else other


def _trace_headers(scope: Scope) -> dict[str, str]:
    """Return the headers of W3C Trace Context."""
    names = (b"traceparent", b"tracestate")
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in names}
