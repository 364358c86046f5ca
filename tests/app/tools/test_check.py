"""The checks of a running service."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.tools import check
from tests.app.harness import MODEL, SERVICE, process, serving, settings_for
from tests.app.kinds import KINDS
from tools.loopback import answers, free_port, until


@pytest.fixture(scope="module")
def url(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("check"), free_port()
    environment = {
        "MODEL_SERVICE_MODEL_URI": saved.as_uri(),
        "MODEL_SERVICE_MODEL_NAME": MODEL,
        "MODEL_SERVICE_PORT": str(port),
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(folder / "termination"),
    }
    with process(SERVICE, folder / "log", **environment):
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/health/ready"))
        yield address


def test_predict_sends_the_input_example(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["predict", f"{url}/"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["model"]["name"] == MODEL
    assert len(answer["predictions"]) == 2


@pytest.mark.parametrize("name", ["categorical", "optional"])
def test_model_without_an_input_example_is_sent_a_row_of_its_signature(tmp_path: Path, name: str) -> None:
    KINDS[name].save(tmp_path / "model")
    (tmp_path / "model" / "input_example.json").unlink()

    with serving(settings_for((tmp_path / "model").as_uri(), tmp_path)) as client:
        described = client.get("/model").json()
        answer = client.post("/predict", json=check.row_of(described["signature"]))

    assert described["input_example"] is None
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1


def test_ready_returns_the_readiness(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["ready", url]) == 0

    assert json.loads(capsys.readouterr().out)["status"] == "ready"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/nothing", "{}/nothing/health/ready returns status 404: Not Found\n"),
        ("/metrics?", "{}/metrics?/health/ready"),
    ],
)
def test_wrong_address_is_reported_in_one_sentence(
    url: str, capsys: pytest.CaptureFixture[str], path: str, sentence: str
) -> None:
    assert check.main(["ready", url + path]) == 1

    assert capsys.readouterr().err.startswith(sentence.format(url))


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9/health/ready is unreachable: [Errno 111] Connection refused.\n"),
        ("file:///etc", "file:///etc/health/ready is not an http:// or https:// address.\n"),
    ],
)
def test_unreachable_service_is_reported_in_one_sentence(
    capsys: pytest.CaptureFixture[str], address: str, sentence: str
) -> None:
    assert check.main(["ready", address]) == 1

    assert capsys.readouterr().err == sentence


def test_release_checks_prediction_metrics_and_openapi(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["release", url]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["predict"]["model"]["name"] == MODEL
    assert answer["rows_counted"] == 2
    assert {"/predict", "/model", "/health/ready"} <= set(answer["paths"])


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "churn", "version": "1"},
    "paths": {"/predict": {"post": {"responses": {"200": {"$ref": "#/components/responses/a~1b"}}}}},
    "components": {"responses": {"a/b": {"description": "fine"}}},
}


class Standin(BaseHTTPRequestHandler):
    """A stand-in for the service with configurable counter values and OpenAPI document."""

    protocol_version = "HTTP/1.1"
    document: Any = DOCUMENT
    values: Iterator[int] = iter(())

    def do_GET(self) -> None:
        """Send the model, the metrics or the OpenAPI document."""
        if self.path == "/metrics":
            self._answer(f'model_predictions_total{{model_name="churn"}} {next(self.values, 5)}.0')
        else:
            self._answer(json.dumps({"input_example": {"data": [[1]]}} if self.path == "/model" else self.document))

    def do_POST(self) -> None:
        """Send a prediction."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer('{"predictions": [1]}')

    def log_message(self, *_: Any) -> None:
        """Suppress the log."""

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def standin() -> Iterator[str]:
    """Address of the stand-in."""
    with ThreadingHTTPServer(("", 0), Standin) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_unchanged_metrics_fail_the_check(standin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["release", standin]) == 1

    assert capsys.readouterr().err.endswith(
        "/metrics did not count a prediction: model_predictions_total stays at 5.\n"
    )


def test_proxy_may_lead_to_several_pods(standin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standin, "values", iter([90, 3, 7, 8]))  # two pods in the first attempt, one in the second

    assert check.release(standin)["rows_counted"] == 1


def test_counters_of_all_addresses_of_the_metrics_are_added(
    standin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pods = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{pod}", 0)) for pod in (1, 2)]
    both = [*pods, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **named: both if host == "churn-metrics" else real(host, *rest, **named),
    )
    monkeypatch.setattr(Standin, "values", iter([90, 3, 90, 5]))

    assert check.main(["release", standin, f"--metrics=http://churn-metrics:{urlsplit(standin).port}"]) == 0

    assert json.loads(capsys.readouterr().out)["rows_counted"] == 2


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([], "it is not an object"),
        ({**DOCUMENT, "openapi": "2.0"}, "it has no OpenAPI 3 version"),
        ({**DOCUMENT, "info": {"title": "churn"}}, "info has no title or no version"),
        ({**DOCUMENT, "paths": {"/model": {}}}, "it does not describe POST /predict"),
        ({**DOCUMENT, "paths": {"/predict": {"post": {}}}}, "POST /predict has no responses"),
        ({**DOCUMENT, "components": {}}, "#/components/responses/a~1b does not exist"),
    ],
)
def test_invalid_openapi_fails_the_check(
    standin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], document: Any, fault: str
) -> None:
    monkeypatch.setattr(Standin, "values", iter([1, 2]))
    monkeypatch.setattr(Standin, "document", document)

    assert check.main(["release", standin]) == 1

    assert capsys.readouterr().err == f"{standin}/openapi.json is not valid: {fault}.\n"
