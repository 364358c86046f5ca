"""Servers on this machine: a free port, and waiting until one answers."""

import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - a server of our own
            return bool(response.status == 200)
    except OSError:
        return False


def until(condition: Callable[[], Any], seconds: float = 300) -> Any:
    """Return the first true result, or fail when the clock runs out."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)
    return result
