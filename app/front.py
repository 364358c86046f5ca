"""Stand in front of the application: request ids, unheard-of methods, and the short way to POST /predict.

The short way passes by the route machinery and by starlette-exporter, which cost more than a prediction, and
writes the exporter's own series by children that are looked up once.
"""

import os
import re
import time
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_exporter import PrometheusMiddleware

from app.errors import SHAPE, Shape, problem_document, problem_response
from app.logs import REQUEST_ID
from app.observations import Observations, observations

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PREDICT = "/predict"
# What callers and proxies use (UUIDs, ULIDs, base64, trace ids); nothing that could forge a log line or a header.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")


class Front:
    """What every request passes first.

    Args:
        app: the application for all requests but predictions.
        predict: answers POST /predict.
        path: of these, with what the proxy stripped.
        series: of starlette-exporter, for the predictions.
        shapes: how errors look, by the first part of the path, for protocols with a shape of their own.
    """

    def __init__(
        self, app: ASGIApp, predict: ASGIApp, path: str, series: "PredictSeries", shapes: Mapping[str, Shape]
    ) -> None:
        self._app = app
        self._predict = predict
        self._path = path
        self._series = series
        self._shapes = shapes
        self._root = len(path.removesuffix(PREDICT)) + 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the request, and hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = _identity(scope["headers"])
        REQUEST_ID.set(identity.decode("ascii"))
        status = 500

        def send_named(message: Message) -> Any:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity)]
            return send(message)

        method = scope["method"]
        if method == "POST" and scope["path"] == self._path:
            begin = time.perf_counter()
            self._series.in_progress.inc()
            try:
                await self._predict(scope, receive, send_named)
            finally:
                self._series.in_progress.dec()
                self._series.record(status, time.perf_counter() - begin)
            return
        if shape := self._shapes.get(scope["path"][self._root :].partition("/")[0]):
            SHAPE.set(shape)
        if method in METHODS:
            await self._app(scope, receive, send_named)
        else:  # before it becomes a label: each would cost 19 series
            refusal = problem_document(HTTPStatus.METHOD_NOT_ALLOWED, "", "This method is not served anywhere.")
            await problem_response(refusal, {"Allow": ", ".join(sorted(METHODS))})(scope, receive, send_named)


class PredictSeries:
    """The exporter's series of POST /predict.

    Args:
        exporter: keeps them; this instance answers no requests.
    """

    def __init__(self, exporter: PrometheusMiddleware) -> None:
        self._exporter = exporter
        self._children: MutableMapping[int, tuple[Counter, Observations]] = {}
        self.in_progress = exporter.requests_in_progress.labels("POST", exporter.app_name)

    def record(self, status: int, seconds: float) -> None:
        """Count one answer."""
        if status not in self._children:
            labels = ("POST", PREDICT, status, self._exporter.app_name)
            self._children[status] = (
                self._exporter.request_count.labels(*labels),
                observations(self._exporter.request_time.labels(*labels)),
            )
        count, duration = self._children[status]
        count.inc()
        duration.observe(seconds)


def _identity(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the caller's X-Request-ID if it is a plain one, else a new one."""
    for name, value in headers:
        if name == b"x-request-id":
            if _REQUEST_ID.fullmatch(value):
                return value
            break
    return os.urandom(16).hex().encode("ascii")
