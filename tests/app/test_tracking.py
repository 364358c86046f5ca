"""Servers that are no MLflow, or one that lies."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app import registry
from app.contract import MODEL_FILE
from app.errors import LoadError
from app.source import RegisteredModel
from app.tracking import Tracking
from tests.app.harness import settings_for, silent_server

ROOT = "1/models/m-1/artifacts"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
Answers = dict[str, tuple[int, bytes]]


def answers(saved: Path) -> Answers:
    """What an honest server says, path by path."""
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    listing = [{"path": name, "is_dir": False, "file_size": len(content)} for name, content in files.items()]
    bodies: dict[str, Any] = {
        "/api/2.0/mlflow/model-versions/get": {"model_version": {"name": "m", "version": "1", "status": "READY"}},
        "/api/2.0/mlflow/model-versions/get-download-uri": {"artifact_uri": f"mlflow-artifacts:/{ROOT}"},
        FILES: {"files": listing},
    }
    honest = {path: (200, json.dumps(body).encode()) for path, body in bodies.items()}
    return honest | {f"{FILES}/{ROOT}/{name}": (200, content) for name, content in files.items()}


@contextmanager
def server(prepared: Answers, seen: list[Any] | None = None) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(self.headers)
            status, body = prepared.get(self.path.partition("?")[0], (404, b"<html>"))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


def fetch(address: str, tmp_path: Path, seconds: float = 20) -> tuple[Path, registry.Provenance]:
    settings = settings_for("models:/m/1", tmp_path, mlflow_tracking_uri=address)
    tracking = Tracking(settings, time.monotonic() + seconds)
    return registry.fetch(tracking, RegisteredModel("m", "1", ""), "m", settings.cache_dir)


def refusal(prepared: Answers, tmp_path: Path) -> LoadError:
    with server(prepared) as address, pytest.raises(LoadError) as caught:
        fetch(address, tmp_path)
    cache = tmp_path / "cache"
    assert not cache.exists() or list(cache.iterdir()) == []
    return caught.value


def listing(*files: dict[str, Any]) -> tuple[int, bytes]:
    return 200, json.dumps({"files": files}).encode()


def test_honest_server_gives_the_same_files(saved: Path, tmp_path: Path) -> None:
    with server(answers(saved)) as address:
        folder, provenance = fetch(address, tmp_path)

    assert (folder / MODEL_FILE).read_bytes() == (saved / MODEL_FILE).read_bytes()
    assert provenance == registry.Provenance(name="m", version="1", uri="models:/m/1")


@pytest.mark.parametrize("name", ["../../escape", "/etc/cron.d/x", "..", "a\\b", "sub/model.ubj", ""])
def test_artifact_name_that_is_a_path_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    prepared = answers(saved)
    entries = json.loads(prepared[FILES][1])["files"]

    error = refusal(prepared | {FILES: listing(*entries, {"path": name, "file_size": 1})}, tmp_path)

    assert "which is no plain file name" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(("change", "found"), [(-1, "only 9"), (1, "more")])
def test_size_must_be_the_listed_one(saved: Path, tmp_path: Path, change: int, found: str) -> None:
    prepared = answers(saved) | {f"{FILES}/{ROOT}/MLmodel": (200, b"x" * (10 + change))}
    model = {"path": MODEL_FILE, "file_size": (saved / MODEL_FILE).stat().st_size}
    prepared[FILES] = listing({"path": "MLmodel", "file_size": 10}, model)

    error = refusal(prepared, tmp_path)

    assert str(error).startswith(f"the download of {ROOT}/MLmodel gave {found} instead of the 10 bytes")
    assert error.retryable


def test_model_of_another_kind_is_refused(saved: Path, tmp_path: Path) -> None:
    error = refusal(answers(saved) | {FILES: listing({"path": "model.pkl", "file_size": 1})}, tmp_path)

    assert str(error).startswith("version 1 has no file MLmodel and no file model.ubj; log an XGBoost model with")


def test_artifacts_elsewhere_are_refused(saved: Path, tmp_path: Path) -> None:
    elsewhere = {"/api/2.0/mlflow/model-versions/get-download-uri": (200, b'{"artifact_uri": "s3://bucket/m"}')}

    error = refusal(answers(saved) | elsewhere, tmp_path)

    assert "its files are at s3:, which MLflow does not hand out" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "cause", "retryable"),
    [
        (401, b"", "MLflow refused the credentials (401)", False),
        (403, b'{"error_code": "PERMISSION_DENIED"}', "MLflow refused the credentials (403)", False),
        (403, b"Invalid Host header - possible DNS rebinding attack detected", "refuses the host name", True),
        (503, b"", "the server answers 503", True),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "x"}', "MLflow refused (500 INTERNAL_ERROR: x)", True),
        (302, b"", "the server redirects elsewhere (302)", True),
        (404, b"<html>", "the server answers 404", True),
        (200, b"<html>", "something that is no JSON object", True),
        (200, b"[]", "something that is no JSON object", True),
        (200, b"{}", "MLflow names no version", True),
    ],
)
def test_answer_is_understood(tmp_path: Path, status: int, body: bytes, cause: str, retryable: bool) -> None:
    error = refusal({"/api/2.0/mlflow/model-versions/get": (status, body)}, tmp_path)

    assert cause in str(error)
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        (lambda: "http://127.0.0.1:9", "the connection was refused"),
        (lambda: "http://mlflow.invalid:5000", "the host name does not resolve (DNS)"),
        (silent_server, "it did not answer in time"),
    ],
)
def test_silence_is_understood(tmp_path: Path, address: Callable[[], str], cause: str) -> None:
    with pytest.raises(LoadError) as caught:
        fetch(address(), tmp_path, seconds=0.5)

    assert str(caught.value).startswith(cause)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        ({}, None),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "Basic dTpw"),
    ],
)
def test_credentials_are_sent(
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    credentials: dict[str, str],
    header: str | None,
) -> None:
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)
    seen: list[Any] = []

    with server(answers(saved), seen) as address:
        fetch(address, tmp_path)

    assert {headers["Authorization"] for headers in seen} == {header}


def test_unwritable_cache_is_named(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")

    with server(answers(saved)) as address, pytest.raises(LoadError, match="give MODEL_SERVICE_CACHE_DIR a writable"):
        fetch(address, tmp_path)
