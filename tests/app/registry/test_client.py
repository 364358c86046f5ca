"""The client of MLflow's REST API against wrong servers and against an MLflow that returns wrong data."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from app.errors import LoadError
from app.model.contract import MODEL_FILE
from app.model.digest import METADATA_FILES
from app.model.files import Provenance
from app.registry import download
from app.registry.sources import find
from app.uri import RegisteredModel
from tests.app.harness import settings_for, silent_server

ROOT = "1/models/m-1/artifacts"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
Answers = dict[str, tuple[int, bytes]]


def answers(saved: Path) -> Answers:
    """Return the responses of a correct server by path."""
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
def server(
    prepared: Answers,
    seen: list[Any] | None = None,
    of_version: Callable[[dict[str, list[str]]], tuple[int, bytes]] | None = None,
) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(self.headers)
            path, _, query = self.path.partition("?")
            status, body = prepared.get(path, (404, b"<html>"))
            if of_version and path == "/model-versions/get-artifact":
                status, body = of_version(parse_qs(query))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Suppress the log."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


def fetch(address: str, tmp_path: Path, seconds: float = 20, most_bytes: int = 10**7) -> tuple[Path, Provenance]:
    settings = settings_for("models:/m/1", tmp_path, mlflow_tracking_uri=address)
    found = find(settings, RegisteredModel("m", "1", ""), time.monotonic() + seconds)
    folder, provenance, _ = download.fetch(found, "m", settings.cache_dir, most_bytes=most_bytes)
    return folder, provenance


def refusal(prepared: Answers, tmp_path: Path) -> LoadError:
    with server(prepared) as address, pytest.raises(LoadError) as caught:
        fetch(address, tmp_path)
    cache = tmp_path / "cache"
    assert not cache.exists() or list(cache.iterdir()) == []
    return caught.value


def listing(*files: dict[str, Any]) -> tuple[int, bytes]:
    return 200, json.dumps({"files": files}).encode()


def test_download_returns_the_registered_files(saved: Path, tmp_path: Path) -> None:
    with server(answers(saved)) as address:
        folder, provenance = fetch(address, tmp_path)

    assert (folder / MODEL_FILE).read_bytes() == (saved / MODEL_FILE).read_bytes()
    assert provenance == Provenance(name="m", version="1", uri="models:/m/1")


@pytest.mark.parametrize("name", ["../../escape", "/etc/cron.d/x", "..", "a\\b", "sub/model.ubj", ""])
def test_artifact_name_that_is_a_path_is_rejected(saved: Path, tmp_path: Path, name: str) -> None:
    prepared = answers(saved)
    entries = json.loads(prepared[FILES][1])["files"]

    error = refusal(prepared | {FILES: listing(*entries, {"path": name, "file_size": 1})}, tmp_path)

    assert "which is not a plain file name" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(("change", "found"), [(-1, "only 9"), (1, "more")])
def test_wrong_download_size_is_rejected(saved: Path, tmp_path: Path, change: int, found: str) -> None:
    prepared = answers(saved) | {f"{FILES}/{ROOT}/MLmodel": (200, b"x" * (10 + change))}
    model = {"path": MODEL_FILE, "file_size": (saved / MODEL_FILE).stat().st_size}
    prepared[FILES] = listing({"path": "MLmodel", "file_size": 10}, model)

    error = refusal(prepared, tmp_path)

    assert str(error).startswith(f"the download of {ROOT}/MLmodel returned {found} instead of the 10 bytes")
    assert error.retryable


@pytest.mark.parametrize("absent", ["MLmodel", MODEL_FILE])
def test_model_without_a_required_file_is_rejected(saved: Path, tmp_path: Path, absent: str) -> None:
    prepared = answers(saved)
    entries = [each for each in json.loads(prepared[FILES][1])["files"] if each["path"] != absent]

    error = refusal(prepared | {FILES: listing(*entries)}, tmp_path)

    assert str(error).startswith(f"its folder does not contain {absent}; ")


def test_model_of_another_flavor_is_rejected_before_its_download(saved: Path, tmp_path: Path) -> None:
    content = b"flavors: {sklearn: {pickled_model: model.pkl}}"
    prepared = answers(saved) | {f"{FILES}/{ROOT}/MLmodel": (200, content)}
    prepared[FILES] = listing({"path": "MLmodel", "file_size": len(content)})

    error = refusal(prepared, tmp_path)

    assert str(error).startswith("MLmodel has no flavor xgboost")
    assert not error.retryable


def test_model_file_has_the_name_in_mlmodel(saved: Path, tmp_path: Path) -> None:
    prepared = answers(saved)
    mlmodel = (saved / "MLmodel").read_bytes().replace(b"model.ubj", b"model.xgb")
    trees = (saved / MODEL_FILE).read_bytes()
    prepared |= {f"{FILES}/{ROOT}/MLmodel": (200, mlmodel), f"{FILES}/{ROOT}/model.xgb": (200, trees)}
    prepared[FILES] = listing(
        {"path": "MLmodel", "file_size": len(mlmodel)}, {"path": "model.xgb", "file_size": len(trees)}
    )

    with server(prepared) as address:
        folder, _ = fetch(address, tmp_path)

    assert sorted(path.name for path in folder.iterdir()) == ["MLmodel", "model.xgb"]
    assert (folder / "model.xgb").read_bytes() == trees


@pytest.mark.parametrize("size", [-1, -(2**40), "many", [1], float("inf")])
def test_size_that_is_not_a_number_of_bytes_is_rejected(saved: Path, tmp_path: Path, size: Any) -> None:
    prepared = answers(saved)
    entries = [each for each in json.loads(prepared[FILES][1])["files"] if each["path"] != MODEL_FILE]

    error = refusal(prepared | {FILES: listing(*entries, {"path": MODEL_FILE, "file_size": size})}, tmp_path)

    assert str(error).startswith(f"{MODEL_FILE} is listed with the size {size}, which is not a number of bytes")
    assert not error.retryable


def test_model_that_exceeds_the_size_limit_is_rejected(saved: Path, tmp_path: Path) -> None:
    most = sum((saved / name).stat().st_size for name in (*METADATA_FILES, MODEL_FILE))

    with server(answers(saved)) as address:
        fetch(address, tmp_path, most_bytes=most)
        with pytest.raises(LoadError, match=r"its files exceed model\.maxBytes \(MODEL_SERVICE_MODEL_MAX_BYTES\)"):
            fetch(address, tmp_path, most_bytes=most - 1)


@contextmanager
def unproxied(saved: Path, version: dict[str, str], listed: Answers | None = None) -> Iterator[str]:
    """Yield the address of a server whose artifacts are in S3, and which hands out the files of a version."""
    record = {"model_version": {"name": "m", "version": "1", "status": "READY"} | version}
    prepared = answers(saved) | {
        "/api/2.0/mlflow/model-versions/get": (200, json.dumps(record).encode()),
        "/api/2.0/mlflow/model-versions/get-download-uri": (200, b'{"artifact_uri": "s3://bucket/r/artifacts/model"}'),
        "/api/2.0/mlflow/runs/get": (200, b'{"run": {"info": {"artifact_uri": "s3://bucket/r/artifacts"}}}'),
    }
    del prepared[FILES]
    absent = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such file"}).encode()
    files = {path.name: path.read_bytes() for path in saved.iterdir()}

    def of_version(query: dict[str, list[str]]) -> tuple[int, bytes]:
        found = files.get(query["path"][0]) if (query["name"], query["version"]) == (["m"], ["1"]) else None
        return (404, absent) if found is None else (200, found)

    with server(prepared | (listed or {}), of_version=of_version) as address:
        yield address


def test_unproxied_files_of_a_run_are_downloaded(saved: Path, tmp_path: Path) -> None:
    """Before MLflow 3, a model's folder is among the artifacts of its run."""
    entries = [{"path": f"model/{each.name}", "file_size": str(each.stat().st_size)} for each in saved.iterdir()]

    with unproxied(saved, {"run_id": "r"}, {"/api/2.0/mlflow/artifacts/list": listing(*entries)}) as address:
        folder, _ = fetch(address, tmp_path)

    assert {path.name for path in folder.iterdir()} == {*METADATA_FILES, MODEL_FILE}
    assert (folder / MODEL_FILE).read_bytes() == (saved / MODEL_FILE).read_bytes()


def test_unproxied_files_without_a_listing_are_requested_by_name(copied: Path, tmp_path: Path) -> None:
    (copied / "input_example.json").unlink()
    size = sum(path.stat().st_size for path in copied.iterdir())

    with unproxied(copied, {}) as address:
        folder, _ = fetch(address, tmp_path, most_bytes=size)
        with pytest.raises(LoadError, match="its files exceed"):
            fetch(address, tmp_path, most_bytes=size - 1)

    assert {path.name for path in folder.iterdir()} == {*METADATA_FILES, MODEL_FILE} - {"input_example.json"}


def test_server_that_neither_proxies_nor_hands_out_files_is_named(saved: Path, tmp_path: Path) -> None:
    elsewhere = {"/api/2.0/mlflow/model-versions/get-download-uri": (200, b'{"artifact_uri": "s3://bucket/m"}')}

    error = refusal(answers(saved) | elsewhere, tmp_path)

    assert str(error) == (
        "its files are stored at s3:, which the server at the tracking URI neither proxies nor hands out; "
        "start the MLflow server with --artifacts-destination and log the model again"
    )


@pytest.mark.parametrize(
    ("status", "body", "cause", "retryable"),
    [
        (401, b"", "MLflow rejected the credentials (401)", False),
        (403, b'{"error_code": "PERMISSION_DENIED"}', "MLflow rejected the credentials (403)", False),
        (403, b"Invalid Host header - possible DNS rebinding attack detected", "rejects the host name", True),
        (503, b"", "the server returns status 503", True),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "x"}', "MLflow returned 500 INTERNAL_ERROR: x", True),
        (302, b"", "the server redirects elsewhere (302)", True),
        (404, b"<html>", "the server returns status 404", True),
        (200, b"<html>", "a response that is not a JSON object", True),
        (200, b"[]", "a response that is not a JSON object", True),
        (200, b"{}", "MLflow returns no model version", True),
    ],
)
def test_error_response_becomes_a_cause(tmp_path: Path, status: int, body: bytes, cause: str, retryable: bool) -> None:
    error = refusal({"/api/2.0/mlflow/model-versions/get": (status, body)}, tmp_path)

    assert cause in str(error)
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        (lambda: "http://127.0.0.1:9", "the connection was refused"),
        (lambda: "http://mlflow.invalid:5000", "the host name does not resolve (DNS)"),
        (silent_server, "it did not respond in time"),
    ],
)
def test_missing_response_becomes_a_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: Callable[[], str], cause: str
) -> None:
    monkeypatch.setattr("app.registry.client.CALL_SECONDS", 0.5)  # less than the time limit for all calls
    with pytest.raises(LoadError) as caught:
        fetch(address(), tmp_path)

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


def test_unwritable_cache_is_reported(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")

    with server(answers(saved)) as address, pytest.raises(LoadError, match="set MODEL_SERVICE_CACHE_DIR to a writable"):
        fetch(address, tmp_path)
