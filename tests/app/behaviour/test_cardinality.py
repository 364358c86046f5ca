"""Invented methods, paths, headers, queries and protocol versions do not create series."""

import random
import socket
from itertools import product
from pathlib import Path

import pytest

from tests.app.harness import running_service

PATHS = (
    *("/predict", "/explain", "/model", "/docs", "/openapi.json", "/metrics", "/health", "/feedback", "/{}"),
    *("/v2/models/{}", "/v2/models/{}/versions/{}/infer", "/invocations", "/ping"),
    *("/predict/{}", "/health/{}", "/%2f{}"),
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND", "M-SEARCH", "LOCK", "{}", "PURGE")
BODIES = (b"", b"{}", b"nonsense")


def invented(drawn: random.Random, method: str, path: str, body: bytes) -> bytes:
    """Return a request with as many invented parts as possible."""
    word = f"x{drawn.getrandbits(40):x}"
    method, path = method.format(word.upper()), path.format(word, word)
    query = drawn.choice(("", f"?{word}={word}"))
    lines = (
        f"{method} {path}{query} HTTP/1.1",
        f"Host: {drawn.choice(('x', word))}",
        f"X-{word}: {word}",
        f"User-Agent: {word}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def ask(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as caller:
        caller.sendall(request)
        return caller.makefile("rb").read()


def series(port: int) -> set[str]:
    """Return the names and labels of all series."""
    text = ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if "{" in line and not line.startswith("#")}


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.long)])
def test_invented_values_create_no_series(saved: Path, tmp_path: Path, count: int) -> None:
    drawn = random.Random(1)  # noqa: S311 - for variety
    with running_service(saved.as_uri(), tmp_path) as running:
        for request in product(METHODS, PATHS, BODIES):  # requests to existing routes
            ask(running.port, invented(drawn, *request))
        before = series(running.port)
        for _ in range(count):
            ask(running.port, invented(drawn, drawn.choice(METHODS), drawn.choice(PATHS), drawn.choice(BODIES)))
        assert series(running.port) - before == set()
        assert len(before) < 2_000
