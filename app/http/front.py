"""The first layer of the application: request IDs, Host headers, unknown methods and direct paths.

A direct path bypasses routing and starlette-exporter, which cost more than a prediction. It updates the exporter's own
series through children that are looked up once.
"""

import os
import re
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_exporter import PrometheusMiddleware

from app.context import REQUEST_ID, SAMPLED_TRACE
from app.errors import ERROR_FORMAT, ErrorFormat, problem_document, problem_response
from app.limits import Pace
from app.monitoring.observations import Observations, observations

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PREDICT = "/predict"
TOO_MANY_REQUESTS = 429
# The forms that clients and proxies use (UUID, ULID, base64, trace ID), without characters that could forge a log line
# or a header.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")


@dataclass(frozen=True)
class Direct:
    """An endpoint whose POST requests bypass routing.

    Args:
        at: Path without the proxy prefix.
        app: Application.
        path: Path of its route, which is a label of metrics and an attribute of spans.
        params: Values of the parameters in that path.
    """

    at: str
    app: ASGIApp
    path: str
    params: Mapping[str, str] = MappingProxyType({})


class Front:
    """ASGI middleware that every request passes first.

    Args:
        app: Application for all other requests.
        direct: Endpoints whose POST requests bypass routing.
        root: Path prefix that the proxy strips.
        exporter: Exporter whose series are updated for these requests.
        error_formats: Error formats of the protocols, by the first part of the path.
    """

    def __init__(
        self,
        app: ASGIApp,
        direct: Sequence[Direct],
        root: str,
        exporter: PrometheusMiddleware,
        error_formats: Mapping[str, ErrorFormat],
    ) -> None:
        self._app = app
        self._direct = {root + each.at: (each, DirectSeries(exporter, each.path)) for each in direct}
        self._error_formats = error_formats
        self._root = len(root) + 1
        self._pace = Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the request an ID, and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity, hosts = _identity(scope["headers"])
        REQUEST_ID.set(identity.decode("ascii"))
        status = 500

        def send_named(message: Message) -> Any:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity)]
                if account := scope.get("account"):
                    message["headers"] += account.headers(time.monotonic())
                    if status == TOO_MANY_REQUESTS:
                        return self._delayed(send, message)
            return send(message)

        method = scope["method"]
        if hosts != 1 and (hosts or scope["http_version"] != "1.0"):  # RFC 9112, 3.2
            refusal = problem_document(HTTPStatus.BAD_REQUEST, "", f"The request has {hosts} Host headers; send one.")
            await problem_response(refusal, {"Connection": "close"})(scope, receive, send_named)
            return
        if error_format := self._error_formats.get(scope["path"][self._root :].partition("/")[0]):
            ERROR_FORMAT.set(error_format)
        if method == "POST" and (found := self._direct.get(scope["path"])):
            direct, series = found
            scope["route"], scope["path_params"] = direct, direct.params
            begin = time.perf_counter()
            series.in_progress.inc()
            try:
                await direct.app(scope, receive, send_named)
            finally:
                series.in_progress.dec()
                series.record(status, time.perf_counter() - begin)
            return
        if method in METHODS:
            await self._app(scope, receive, send_named)
        else:  # rejected here, because every new method label would cost 19 series
            refusal = problem_document(HTTPStatus.METHOD_NOT_ALLOWED, "", "No path supports this method.")
            await problem_response(refusal, {"Allow": ", ".join(sorted(METHODS))})(scope, receive, send_named)

    async def _delayed(self, send: Send, message: Message) -> None:
        """Send the start of a refusal, after a delay if the rate of refusals is high."""
        await self._pace.wait()
        await send(message)


class DirectSeries:
    """The series of starlette-exporter for the POST requests of one route.

    Args:
        exporter: Exporter that owns the series.
        path: Path of the route.
    """

    def __init__(self, exporter: PrometheusMiddleware, path: str) -> None:
        self._exporter, self._path = exporter, path
        self._children: MutableMapping[int, tuple[Counter, Observations]] = {}
        self.in_progress = exporter.requests_in_progress.labels("POST", exporter.app_name)

    def record(self, status: int, seconds: float) -> None:
        """Count one response."""
        if status not in self._children:
            labels = ("POST", self._path, status, self._exporter.app_name)
            self._children[status] = (
                self._exporter.request_count.labels(*labels),
                observations(self._exporter.request_time.labels(*labels)),
            )
        count, duration = self._children[status]
        count.inc()
        duration.observe(seconds)
        if trace := SAMPLED_TRACE.get():
            duration.exemplify(seconds, trace)


def _identity(headers: list[tuple[bytes, bytes]]) -> tuple[bytes, int]:
    """Return the client's X-Request-ID if it has a valid form, otherwise a new one, and the number of Host headers."""
    identity, hosts = b"", 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"x-request-id" and not identity:
            identity = value
    if not _REQUEST_ID.fullmatch(identity):
        identity = os.urandom(16).hex().encode("ascii")
    return identity, hosts
