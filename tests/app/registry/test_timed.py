"""The deadline for loading, against servers that send one byte now and then."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import LoadError
from app.model.files import Provenance
from app.registry.client import RegistryClient
from app.registry.copies import Copy, File
from app.registry.peers import Peers
from tests.app.harness import settings_for

PAUSE_SECONDS = 0.02
SECONDS = 0.6  # 30 pauses: each byte arrives long before any timeout of a single read
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture(params=["headers", "body", "chunks"])
def dripping(request: pytest.FixtureRequest) -> Iterator[int]:
    """Yield the port of a server whose response never ends."""
    at_once, then = {
        "headers": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        "body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
        "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    }[request.param]
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                caller, _ = listener.accept()
                with caller, suppress(OSError):
                    caller.recv(4096)
                    caller.sendall(at_once)
                    for byte in itertools.cycle(then):
                        if ended.wait(PAUSE_SECONDS):
                            return
                        caller.sendall(bytes([byte]))

    thread = threading.Thread(target=serve)
    thread.start()
    yield int(listener.getsockname()[1])
    ended.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_registry_that_drips_does_not_outlive_the_deadline(dripping: int, tmp_path: Path) -> None:
    settings = settings_for("models:/m/1", tmp_path, mlflow_tracking_uri=f"http://127.0.0.1:{dripping}")
    begin = time.monotonic()

    with pytest.raises(LoadError, match="the time limit for loading passed; raise MODEL_SERVICE_LOAD_TIMEOUT_SECONDS"):
        RegistryClient(settings, begin + SECONDS).get("mlflow/model-versions/get")

    assert SECONDS <= time.monotonic() - begin < SECONDS + 5


def test_pod_that_drips_does_not_outlive_the_deadline(dripping: int, tmp_path: Path) -> None:
    settings = settings_for(
        "models:/m/1", tmp_path, mlflow_tracking_uri="http://127.0.0.1:1", peers_host="x", peers_port=dripping
    )
    begin = time.monotonic()
    provenance = replace(Provenance("m", version="", uri="models:/m/1"), version="1")
    copy = Copy("models:/m/1", "", True, provenance, {"MLmodel": File(1_000_000, "0" * 64)})

    with pytest.raises(LoadError, match="does not answer"):
        Peers(settings, begin + SECONDS).fetch("127.0.0.1", copy, "m", tmp_path, 10**7)

    assert time.monotonic() - begin < SECONDS + 5
