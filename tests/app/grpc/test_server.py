"""The gRPC server in a process of its own: start, shutdown, and no trace of the library while it is off."""

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from pydantic import ValidationError
from tritonclient.grpc import InferenceServerClient, service_pb2
from tritonclient.utils import InferenceServerException

from tests.app.grpc.clients import SERVICE, message
from tests.app.harness import MODEL, ROOT, environment, process, running_service, settings_for
from tests.app.harness import SERVICE as PROGRAM
from tools.loopback import free_port, until

IN_PROGRESS = r'http_server_requests_in_progress\{[^}]*method="POST"[^}]*\} 1\.0'


def test_nothing_of_grpc_is_imported_while_it_is_off() -> None:
    program = (
        "import sys; from app.main import create_app; from app.settings import Settings; "
        "create_app(Settings(model_uri='file:///models/m')); "
        "found = [name for name in sys.modules if name.split('.')[0] == 'grpc' or name.startswith('google.protobuf')]; "
        "assert not found, found"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def refused(client: InferenceServerClient) -> bool:
    """Return whether the port accepts no calls."""
    try:
        client.is_server_ready()
    except InferenceServerException as error:
        return str(error.status()) == "StatusCode.UNAVAILABLE"
    return False


def test_shutdown_answers_calls_in_progress_and_accepts_no_more(saved: Path, tmp_path: Path) -> None:
    port, sent = free_port(), threading.Event()
    settings = {"GRPC_PORT": port, "MODEL_NAME": MODEL, "BODY_TIMEOUT_SECONDS": 300, "SHUTDOWN_SECONDS": 300}
    variables = {f"MODEL_SERVICE_{name}": str(value) for name, value in settings.items()}

    def later() -> Any:
        sent.wait(300)
        yield message().SerializeToString()

    with running_service(saved.as_uri(), tmp_path, **variables) as here:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, InferenceServerClient(f"127.0.0.1:{port}") as other:
            call = channel.stream_unary(f"/{SERVICE}/ModelInfer").future(later())
            assert other.is_server_ready()
            until(lambda: re.search(IN_PROGRESS, httpx.get(f"{here.address}/metrics", timeout=300).text))
            here.process.terminate()
            until(lambda: refused(other))
            sent.set()
            answer = service_pb2.ModelInferResponse.FromString(call.result(300))
        assert here.process.wait(300) == 0

    assert answer.model_name == MODEL
    assert "Traceback" not in here.log.read_text()


def test_port_in_use_ends_the_process_with_a_message(saved: Path, tmp_path: Path) -> None:
    port = free_port()
    variables = environment(saved.as_uri(), tmp_path, MODEL_SERVICE_GRPC_PORT=str(port), MODEL_SERVICE_HOST="127.0.0.1")
    with socket.create_server(("127.0.0.1", port)), process(PROGRAM, tmp_path / "log", **variables) as running:
        assert running.wait(300) == 1

    assert (tmp_path / "termination").read_text() == f"The gRPC port {port} cannot be used: set a free GRPC_PORT.\n"


def test_port_must_differ_from_the_others(tmp_path: Path) -> None:
    for others in ({"port": 8003}, {"monitoring_port": 8003}, {"peers_port": 8003, "peers_host": "peers"}):
        with pytest.raises(ValidationError, match="MODEL_SERVICE_GRPC_PORT must differ from the other ports"):
            settings_for("file:///model", tmp_path, grpc_port=8003, **others)
