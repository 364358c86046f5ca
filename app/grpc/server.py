"""The gRPC server: each call is a POST request of the application, whose body is the message.

A call is handled as a stream of requests, which has the same form on the wire as a single one. So a caller without a
key, or beyond a limit, is refused before its message is read, and a message that does not arrive in time ends the call.
"""

import asyncio
import json
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Scope
from starlette_exporter import PrometheusMiddleware

from app.grpc.endpoints import INFER, SERVICE, error, methods
from app.http.auth import Guard
from app.http.callers import Callers
from app.http.front import Direct, Front
from app.http.server import MOST_HEAD_BYTES
from app.http.tracing import Tracing
from app.service import Service
from app.settings import Settings

MOST_STREAMS = 128  # concurrent calls of a connection, as in nginx; a client holds further ones back
MOST_DETAIL_BYTES = 2000  # of an error's text: its encoding may have three times this, and clients accept 8 KiB
IDENTITY = 1  # bit of the only coding of messages: a compressed one could be decompressed beyond the limit

# Metadata of a call that the application reads, and headers of a response that become metadata.
_READ = frozenset({"authorization", "traceparent", "tracestate", "x-forwarded-for", "x-request-id"})
_RETURNED = frozenset({"ratelimit", "ratelimit-policy", "retry-after", "www-authenticate", "x-request-id"})
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

log = logging.getLogger(__name__)


class GrpcServer:
    """The server on `grpc_port`, in the event loop of the API.

    Args:
        service: State of the process, with the settings; it fails if the port cannot be used.
        callers: Accounts, shared with HTTP.
        exporter: Exporter whose series are updated, shared with HTTP.
        tracing: Tracing of HTTP; None: none.
    """

    def __init__(
        self, service: Service, callers: Callers, exporter: PrometheusMiddleware, tracing: Tracing | None
    ) -> None:
        self._service = service
        paths = {f"/{SERVICE}/{name}": (name, app) for name, app in methods(service).items()}
        direct = [
            # A request about the model is not charged, like GET.
            Direct(path, Guard(app, callers, service.settings, charged=name == INFER), path)
            for path, (name, app) in paths.items()
        ]
        app: ASGIApp = Front(Router(), direct, "", exporter, {SERVICE: error})
        self._app = tracing.over(app) if tracing else app
        self._handlers = {
            name: grpc.stream_unary_rpc_method_handler(partial(self._answer, path)) for path, (name, _) in paths.items()
        }
        self._ended: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen until the server of the API closes."""
        settings = self._service.settings
        server = grpc.aio.server(options=_options(settings))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers),))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host or "[::]"
        try:
            server.add_insecure_port(f"{host}:{settings.grpc_port}")
        except RuntimeError:
            self._service.fail(f"The gRPC port {settings.grpc_port} cannot be used: set a free GRPC_PORT.")
            return
        await server.start()
        self._ended = asyncio.create_task(self._end(server))

    async def stop(self) -> None:
        """Stop listening, after the calls in progress."""
        self._service.closing.set()
        if self._ended:
            await self._ended

    async def _end(self, server: grpc.aio.Server) -> None:
        await self._service.closing.wait()
        await server.stop(self._service.settings.shutdown_seconds)

    async def _answer(self, path: str, _: Any, context: grpc.aio.ServicerContext) -> bytes:
        """Return the response to a call, or end it with a status.

        A call that the client has ended is a closed connection for the application, which is not interrupted.
        """
        call = Call(context)
        requests = self._service.requests
        requests.add(task := asyncio.create_task(self._run(call, path)))
        task.add_done_callback(requests.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            call.gone.set()
            raise
        metadata = tuple(_metadata(call.headers))
        if call.status == 200:
            context.set_trailing_metadata(metadata)
            return call.content
        await context.abort(_CODES.get(call.status, grpc.StatusCode.INTERNAL), _detail(call.content), metadata)
        raise AssertionError  # `abort` always raises

    async def _run(self, call: "Call", path: str) -> None:
        """Let the application answer a call. A failure ends it without a word of the exception."""
        try:
            await self._app(call.scope(path), call.receive, call.send)
        except Exception:
            log.error("unexpected failure in a call of gRPC", exc_info=True)
            call.status, call.content = 500, b""


class Call:
    """One call as a request of ASGI, and its response.

    Args:
        context: The call.
    """

    def __init__(self, context: grpc.aio.ServicerContext) -> None:
        self._context = context
        self._read = False
        self.gone = asyncio.Event()
        self.status = 500
        self.headers: Iterable[tuple[bytes, bytes]] = ()
        self.content = b""

    def scope(self, path: str) -> Scope:
        """Return the scope of the request."""
        metadata = self._context.invocation_metadata()
        headers = [(name.encode(), value.encode()) for name, value in metadata if name in _READ]
        address, _, port = unquote(self._context.peer()).partition(":")[2].rpartition(":")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "2",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b""), *headers],  # gRPC's library does not pass on :authority
            "client": (address.strip("[]"), int(port)) if port.isdigit() else None,
        }

    async def receive(self) -> Message:
        """Return the message of the call, and after it or without one, the end of the connection."""
        if not self._read:
            self._read = True
            if (message := await self._context.read()) is not grpc.aio.EOF:
                return {"type": "http.request", "body": message, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Keep the response."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.content += message.get("body", b"")


def _options(settings: Settings) -> list[tuple[str, int]]:
    """Return the limits of the library: those of the HTTP server."""
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_metadata_size", MOST_HEAD_BYTES),
        ("grpc.absolute_max_metadata_size", MOST_HEAD_BYTES),
        ("grpc.max_concurrent_streams", MOST_STREAMS),
        ("grpc.max_connection_idle_ms", settings.keep_alive_seconds * 1000),
        ("grpc.server_handshake_timeout_ms", int(settings.body_timeout_seconds * 1000)),
        ("grpc.compression_enabled_algorithms_bitset", IDENTITY),
        ("grpc.so_reuseport", 0),  # a port that is in use is an error
    ]


def _metadata(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, str]]:
    """Return the headers that clients of gRPC can use, and the wait before a retry as their libraries read it."""
    for name, value in ((name.decode().lower(), value.decode()) for name, value in headers):
        if name in _RETURNED:
            yield name, value
        if name == "retry-after":
            yield "grpc-retry-pushback-ms", str(int(value) * 1000)


def _detail(content: bytes) -> str:
    """Return the text of an error response."""
    text: str = json.loads(content)["error"] if content else "The service failed; see its log."
    return text.encode("utf-8", "replace")[:MOST_DETAIL_BYTES].decode("utf-8", "ignore")
