"""The HTTP server: uvicorn with limits against slow and endless requests, and with a graceful shutdown.

On its own, uvicorn limits neither the size of the headers nor the time until the first response of a connection. On
SIGTERM it closes idle connections immediately, so clients that are about to send get a connection error.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.context import REQUEST_ID
from app.errors import problem_document, problem_response
from app.service import Service
from app.settings import Settings

MOST_HEAD_BYTES = 64 * 1024  # limit for request line and headers; nginx has 32 KiB, Go 1 MiB
# Threads that need the interpreter take turns after this time, instead of Python's 5 ms: the event loop waits this long
# for its turn while a thread reads a large body, or answers a scrape.
SWITCH_SECONDS = 0.0005
LINGER_SECONDS = 5.0  # time in which a response announces to clients that their connection closes

log = logging.getLogger(__name__)


class Connection(HttpToolsProtocol):
    """One client connection.

    Args:
        most_bytes: Maximum size of one request with all its framing.
        others: Arguments that uvicorn passes.
    """

    _piece = b""
    _bytes = 0
    _counted: Any = None  # the request whose bytes are counted

    def __init__(self, most_bytes: int, **others: Any) -> None:
        super().__init__(**others)
        self._most_bytes = most_bytes

    @property
    def in_head(self) -> bool:
        """Whether a request has started but its headers are incomplete."""
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    @property
    def waits_for_client(self) -> bool:
        """Whether the connection waits for the client to send or to receive, and is not idle between requests."""
        if self.transport.get_write_buffer_size():
            return True
        return self.cycle is None or (self.cycle.response_complete and self.timeout_keep_alive_task is None)

    def data_received(self, data: bytes) -> None:
        """Parse the data, and count the bytes of a request that arrives in several pieces."""
        before = self.scope
        self._piece = data
        super().data_received(data)
        if self.scope is before and before is not None and not self.transport.is_closing():
            self._count(len(data))

    def refuse(self, status: HTTPStatus, detail: str) -> None:
        """Send an error response to a request that has no task yet, and close the connection."""
        identity = os.urandom(16).hex()
        token = REQUEST_ID.set(identity)
        answer = problem_response(
            problem_document(status, "", detail), {"Connection": "close", "X-Request-ID": identity}
        )
        REQUEST_ID.reset(token)
        head = [*self.server_state.default_headers, *answer.raw_headers]
        lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), *(name + b": " + value for name, value in head)]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Reject a malformed HTTP request."""
        self.refuse(HTTPStatus.BAD_REQUEST, msg)

    def shutdown(self) -> None:
        """Close now or after the response, unless the client has sent only part of the headers."""
        if not self.in_head:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the keep-alive timer, which uvicorn keeps (with the connection) if a client resets an idle one."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def _should_upgrade(self) -> bool:
        """Whether the request has an Upgrade header, which is ignored: only HTTP/1.1 is served."""
        return any(name == b"upgrade" for name, _ in self.headers)

    def handle_websocket_upgrade(self) -> None:
        """Parse the request again without its Upgrade header, which makes the parser skip the body.

        Java's built-in client offers HTTP/2 in its first request this way.
        """
        rest = self._piece[cast(httptools.HttpParserUpgrade, sys.exception()).args[0] :]
        fields = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([line, *fields, b"", rest]))

    def _count(self, size: int) -> None:
        if self._counted is not self.scope:
            self._counted, self._bytes = self.scope, 0
        self._bytes += size
        if self.in_head and self._bytes > MOST_HEAD_BYTES:
            detail = f"The headers are larger than the limit of {MOST_HEAD_BYTES} bytes."
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        elif self._bytes > self._most_bytes:
            self.transport.close()


class LimitedServer(uvicorn.Server):
    """uvicorn's server with timeouts for stalled clients.

    Args:
        config: Configuration of uvicorn, whose protocol is Connection.
        service: State of the process, with the settings.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._stalled: dict[Connection, tuple[object, float]] = {}

    async def on_tick(self, counter: int) -> bool:
        """Close stalled connections once a second; uvicorn calls this ten times a second."""
        if counter % 10 == 0:
            self._close_stalled()
        return await super().on_tick(counter)

    def _close_stalled(self) -> None:
        settings, now = self._service.settings, time.monotonic()
        seen: dict[Connection, tuple[object, float]] = {}
        for connection in cast(set[Connection], self.server_state.connections):
            if connection.waits_for_client:
                known, since = self._stalled.get(connection, (None, now))
                seen[connection] = (connection.cycle, since if known is connection.cycle else now)
        self._stalled = seen
        for connection, (_, since) in seen.items():
            new = connection.cycle is None and connection.scope is None  # load balancers open some in advance
            if now - since < (settings.keep_alive_seconds if new else settings.body_timeout_seconds):
                continue
            if connection.transport.get_write_buffer_size():
                connection.transport.abort()
            elif connection.in_head:
                connection.refuse(HTTPStatus.REQUEST_TIMEOUT, "The headers did not arrive in time.")
            else:
                connection.transport.close()


class Server(LimitedServer):
    """The server of the API, with an exit status of 0 after a graceful shutdown.

    uvicorn itself raises the signal again, so that a drained pod looks like a killed one.
    """

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """Start draining; a second Ctrl-C does not wait for requests."""
        self._service.drain()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Note that the event loop runs."""
        self._service.note_loop()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Announce the end of each connection with its next response, then close the idle ones."""
        self._service.closing.set()
        state, config = self.server_state, self.config
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        for connection in cast(set[Connection], state.connections):
            if connection.cycle and not connection.cycle.response_complete:
                connection.cycle.keep_alive = False
        begin = time.monotonic()
        total = self._service.settings.shutdown_seconds
        # Logged here, because a signal handler may interrupt the writing of another line.
        log.info("draining", extra={"connections": len(state.connections), "most_seconds": total})
        while state.connections and time.monotonic() < begin + min(LINGER_SECONDS, total / 2) and not self.force_exit:
            await asyncio.sleep(0.05)
        config.timeout_graceful_shutdown = max(1, round(begin + total - time.monotonic()))
        await super().shutdown(sockets)
        log.info("ended", extra={"seconds": round(time.monotonic() - begin, 3)})


def configuration(app: Any, settings: Settings, port: int, most_bytes: int, **own: Any) -> uvicorn.Config:
    """Return what both servers of the process have in common.

    Args:
        app: ASGI application.
        settings: Settings of the service.
        port: Port to listen on.
        most_bytes: Maximum size of one request with all its framing.
        own: Further arguments of uvicorn.Config.
    """
    return uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        # httptools rejects malformed methods, which h11 passes on. uvicorn only calls this value.
        http=cast(type[asyncio.Protocol], partial(Connection, most_bytes)),
        loop="uvloop",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        **own,
    )


def make_server(app: Any, service: Service) -> Server:
    """Return the HTTP server, which does not listen yet.

    Args:
        app: ASGI application.
        service: State of the process, with the settings.
    """
    settings: Settings = service.settings
    config = configuration(
        app,
        settings,
        settings.port,
        # A body in chunks of one byte has six bytes of framing for each.
        8 * settings.max_body_bytes + MOST_HEAD_BYTES,
        root_path=settings.root_path,
        lifespan="on",
        reset_contextvars=True,  # a pipelined request must not inherit the context of the previous one
    )
    sys.setswitchinterval(SWITCH_SECONDS)
    server = Server(config, service)
    service.requests = server.server_state.tasks
    return server
