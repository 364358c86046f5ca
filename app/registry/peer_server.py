"""Server that offers the loaded model to the other pods of the release, on a port of its own that nothing else uses."""

import hmac
import logging
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from app.registry.copies import Copy
from app.registry.peers import FILES_PATH, MODEL_PATH, REFUSED_PATH, TOKEN_HEADER

MOST_CONNECTIONS = 4
IDLE_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """What a pod offers: a model, its folder, and the versions that it refuses as a JSON document."""

    copy: Copy
    folder: Path
    refusals: bytes = b"[]"


class PeerServer(ThreadingHTTPServer):
    """Read-only HTTP server of one model.

    Args:
        port: Port to listen on, on every address of the pod.
        token: What a pod must send (app.registry.peers.token_of); "" admits every pod.
        offered: Function that returns what the pod offers now.
    """

    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(self, port: int, token: str, offered: Callable[[], Offer]) -> None:
        self.token = token
        self.offered = offered
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(("", port), _Handler)

    def server_bind(self) -> None:
        """Accept both families of addresses on one socket."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def start(self) -> None:
        """Serve in the background until the process ends."""
        threading.Thread(target=self.serve_forever, name="peer-server", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or close the connection if enough are open: the client asks another pod."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for another connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a failed answer, whose client usually has closed the connection."""
        del request
        log.info("a pod of this release did not read the model to its end", extra={"peer": str(client_address[0])})


class _Handler(BaseHTTPRequestHandler):
    server: PeerServer
    timeout = IDLE_SECONDS
    server_version, sys_version = "model-service", ""

    def do_GET(self) -> None:
        """Answer with the description of the model, or with one of its files."""
        given = self.headers.get(TOKEN_HEADER, "").encode()
        if self.server.token and not hmac.compare_digest(given, self.server.token.encode()):
            self._end(HTTPStatus.UNAUTHORIZED)
            return
        offer = self.server.offered()
        copy = offer.copy
        path = unquote(self.path.removeprefix(FILES_PATH))
        if self.path in (MODEL_PATH, REFUSED_PATH):
            document = copy.to_json() if self.path == MODEL_PATH else offer.refusals
            self._end(HTTPStatus.OK, len(document))
            self.wfile.write(document)
        elif self.path.startswith(FILES_PATH) and path in copy.files:
            with (offer.folder / path).open("rb") as content:
                self._end(HTTPStatus.OK, copy.files[path].bytes)
                shutil.copyfileobj(content, self.wfile, 1 << 20)
        else:
            self._end(HTTPStatus.NOT_FOUND)

    def _end(self, status: HTTPStatus, size: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing by request: a pod asks at its start only."""
