"""The checks that the image, `helm test` and people run."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app import check
from tests.app.harness import MODEL, SERVICE, answers, free_port, process, until


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


def test_predict_sends_the_models_own_example(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["predict", f"{url}/"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["model"]["name"] == MODEL
    assert len(answer["predictions"]) == 2


def test_ready_says_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["ready", url]) == 0

    assert json.loads(capsys.readouterr().out)["status"] == "ready"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/nothing", "{}/nothing/health/ready answers 404: Not Found\n"), ("/metrics?", "{}/metrics?/health/ready")],
)
def test_wrong_address_is_one_sentence(url: str, capsys: pytest.CaptureFixture[str], path: str, sentence: str) -> None:
    assert check.main(["ready", url + path]) == 1

    assert capsys.readouterr().err.startswith(sentence.format(url))


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9/health/ready cannot be reached: [Errno 111] Connection refused.\n"),
        ("file:///etc", "file:///etc/health/ready is no http:// or https:// address.\n"),
    ],
)
def test_unreachable_service_is_one_sentence(capsys: pytest.CaptureFixture[str], address: str, sentence: str) -> None:
    assert check.main(["ready", address]) == 1

    assert capsys.readouterr().err == sentence


def test_release_predicts_counts_and_describes(url: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    """A service that answers as it is told: its counter may stand still, its document may be wrong."""

    protocol_version = "HTTP/1.1"
    document: Any = DOCUMENT
    values: Iterator[int] = iter(())

    def do_GET(self) -> None:
        """Answer with the model, the metrics or the document."""
        if self.path == "/metrics":
            self._answer(f'model_predictions_total{{model_name="churn"}} {next(self.values, 5)}.0')
        else:
            self._answer(json.dumps({"input_example": {"data": [[1]]}} if self.path == "/model" else self.document))

    def do_POST(self) -> None:
        """Answer with a prediction."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer('{"predictions": [1]}')

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def standin() -> Iterator[str]:
    """The address of the stand-in."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Standin) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_metrics_that_stand_still_are_a_fault(standin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["release", standin]) == 1

    assert capsys.readouterr().err.endswith(
        "/metrics did not move with a prediction: model_predictions_total stays at 5.\n"
    )


def test_a_proxy_may_lead_to_another_pod_first(standin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standin, "values", iter([90, 3, 7, 8]))  # two pods on the first connection, one on the second

    assert check.release(standin)["rows_counted"] == 1


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([], "it is no object"),
        ({**DOCUMENT, "openapi": "2.0"}, "it names no OpenAPI 3 version"),
        ({**DOCUMENT, "info": {"title": "churn"}}, "info has no title or no version"),
        ({**DOCUMENT, "paths": {"/model": {}}}, "it does not describe POST /predict"),
        ({**DOCUMENT, "paths": {"/predict": {"post": {}}}}, "POST /predict describes no answer"),
        ({**DOCUMENT, "components": {}}, "#/components/responses/a~1b leads nowhere"),
    ],
)
def test_description_that_is_not_whole_is_a_fault(
    standin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], document: Any, fault: str
) -> None:
    monkeypatch.setattr(Standin, "values", iter([1, 2]))
    monkeypatch.setattr(Standin, "document", document)

    assert check.main(["release", standin]) == 1

    assert capsys.readouterr().err == f"{standin}/openapi.json is not valid: {fault}.\n"
