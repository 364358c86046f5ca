"""HTTP connections with a deadline for the whole exchange.

A socket's own timeout is that of one read, so a server that sends one byte now and then would never reach it.
"""

import io
import socket
import time
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from typing import Any


class _Reader(io.RawIOBase):
    """The bytes of a socket, until the deadline."""

    def __init__(self, sock: socket.socket, seconds: float, deadline: float) -> None:
        self._sock, self._file = sock, sock.makefile("rb", buffering=0)
        self._seconds, self._deadline = seconds, deadline

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read once, as io.RawIOBase defines it.

        Raises:
            TimeoutError: No byte arrived in time, or the deadline has passed.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self._sock.settimeout(min(self._seconds, left))
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Release the socket."""
        self._file.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *others: Any, seconds: float, deadline: float, **named: Any) -> None:
        super().__init__(sock, *others, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_Reader(sock, seconds, deadline))


def limited[Connection: HTTPConnection](connection: Connection, deadline: float) -> Connection:
    """Return the connection with a deadline for its responses.

    Args:
        connection: Connection whose own timeout is that of one read.
        deadline: Time by time.monotonic(), in seconds, after which a read raises TimeoutError.
    """
    assert connection.timeout  # noqa: S101 - callers set one
    connection.response_class = partial(_Response, seconds=connection.timeout, deadline=deadline)  # type: ignore[assignment]
    return connection
