"""A connection to the worker, which runs the model in its own Python (app.worker)."""

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.errors import LoadError
from app.worker import wire
from app.worker.wire import Block, GarbageError

GRACE_SECONDS = 2.0  # in which the supervisor ends a call that exceeds its limit, before the service gives up
_POLL_SECONDS = 0.2

Reply = tuple[dict[str, Any], tuple[Block, ...]]


class LostError(Exception):
    """The worker ended, does not respond, or sends something else than replies.

    Args:
        why: What happened.
        slow: Whether the call took longer than its limit.
    """

    def __init__(self, why: str, *, slow: bool = False) -> None:
        super().__init__(why)
        self.slow = slow


class ModelError(Exception):
    """The model failed, or its output is not usable. The message contains no values of the request."""


class Connection:
    """A connection to the worker.

    Args:
        path: Path of the Unix socket.
        deadline: Time by time.monotonic(), in seconds, until which the worker may start.

    Raises:
        LostError: The worker does not answer, or ended.
    """

    def __init__(self, path: Path, deadline: float) -> None:
        self._socket = _connected(path, deadline)
        self.facts, _ = self._receive(deadline - time.monotonic())
        if self.facts.get("version") != wire.VERSION:
            self.close()
            raise LostError("the worker belongs to a different release of the service")

    def call(self, header: dict[str, Any], blocks: tuple[Block, ...], seconds: float) -> Reply:
        """Send a request and return the reply.

        Args:
            header: Header of the request.
            blocks: Its columns.
            seconds: Time limit, after which the supervisor ends the model's process.

        Raises:
            LostError: The worker does not reply. The connection is closed.
        """
        begin = time.monotonic()
        self._socket.settimeout(seconds + GRACE_SECONDS)
        try:
            wire.send(self._socket, {**header, "seconds": seconds}, blocks)
        except OSError as error:
            self.close()
            raise LostError(f"the connection to the model's process broke ({error.strerror})") from None
        try:
            return self._receive(seconds + GRACE_SECONDS)
        except LostError as error:
            slow = time.monotonic() - begin >= seconds
            raise LostError(f"a call took longer than {seconds:g} s" if slow else str(error), slow=slow) from None

    def fileno(self) -> int:
        """Return the file descriptor, which is readable between calls only if the worker ended."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._socket.close()

    def _receive(self, seconds: float) -> Reply:
        try:
            self._socket.settimeout(max(seconds, _POLL_SECONDS))
            return wire.receive(self._socket)
        except GarbageError as error:
            problem = LostError(f"the model's process sent an invalid reply: {error}")
        except TimeoutError:
            problem = LostError("the model's process did not reply in time", slow=True)
        except (EOFError, OSError):
            problem = LostError("the model's process ended")
        self.close()
        raise problem


def failure_of(header: dict[str, Any]) -> str:
    """Return why a reply is a failure, or "" if it is not one."""
    return f"{header['failure']}: {header.get('why', '')}" if "failure" in header else ""


def load(connection: Connection, deadline: float) -> None:
    """Load the model in the worker.

    Raises:
        LoadError: The model cannot be loaded.
        LostError: The worker ended.
    """
    header, _ = connection.call({"do": "load"}, (), max(deadline - time.monotonic(), 1))
    if "failure" in header:
        connection.close()
        raise LoadError(
            str(header.get("why", "it cannot be loaded")),
            "see the log of the container model, and compare the model's requirements.txt with what the model imports",
        )


def _connected(path: Path, deadline: float) -> socket.socket:
    while True:
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(_POLL_SECONDS)
        try:
            found.connect(str(path))
        except OSError:
            found.close()
            if time.monotonic() > deadline:
                raise LostError(f"no worker listens at {path}") from None
            time.sleep(_POLL_SECONDS)
        else:
            return found
