"""The service with gRPC and REST in one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import InferenceServerClient

from tests.app.grpc.clients import Both, Start
from tests.app.harness import MODEL, serving, settings_for
from tools.loopback import free_port


@pytest.fixture(scope="session")
def both() -> Start:
    """Return a function that starts the service of a model."""

    @contextmanager
    def start(folder: Path, place: Path, **changes: Any) -> Iterator[Both]:
        port = free_port()
        settings = settings_for(folder.as_uri(), place, grpc_port=port, host="127.0.0.1", **changes)
        address, unlimited = f"127.0.0.1:{port}", [("grpc.max_send_message_length", -1)]
        with (
            serving(settings) as rest,
            grpc.insecure_channel(address, unlimited) as channel,
            InferenceServerClient(address) as triton,
        ):
            yield Both(address, rest, channel, triton)

    return start


@pytest.fixture(scope="module")
def served_both(both: Start, saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Clients of the saved model, with limits of 200 rows and 20,000 bytes."""
    limits = {"max_rows": 200, "max_body_bytes": 20_000, "body_timeout_seconds": 1}
    with both(saved, tmp_path_factory.mktemp("grpc"), model_name=MODEL, **limits) as clients:
        yield clients
