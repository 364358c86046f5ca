"""Models from a real MLflow server."""

import hashlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
import xgboost as xgb
from starlette.testclient import TestClient

from app.booster import Matrix
from app.contract import MODEL_FILE
from app.main import create_app
from tests.app.harness import COLUMNS, MODEL, serving, settings_for, until


def failure(uri: str, address: str, tmp_path: Path, seconds: float) -> str:
    """Return why a model does not load."""
    settings = settings_for(uri, tmp_path, mlflow_tracking_uri=address, load_timeout_seconds=seconds)
    failures: list[str] = []
    with TestClient(create_app(settings, failures.append)):
        until(lambda: failures)
    assert (tmp_path / "termination").read_text() == failures[0] + "\n"
    return failures[0]


@pytest.mark.parametrize("uri", [f"models:/{MODEL}@champion", f"models:/{MODEL}/1"])
def test_registered_model_is_served(
    mlflow_server: str, registered: str, booster: xgb.Booster, rows: Matrix, tmp_path: Path, uri: str
) -> None:
    with serving(settings_for(uri, tmp_path, mlflow_tracking_uri=mlflow_server)) as client:
        model = client.get("/model").json()
        data = [[float(a), float(b), int(c)] for a, b, c in rows]
        answer = client.post("/predict", json={"columns": COLUMNS, "data": data}).json()

    assert answer["model"] == {"name": MODEL, "version": "1"}
    shares = [prediction["probabilities"]["1"] for prediction in answer["predictions"]]
    assert shares == booster.inplace_predict(rows, validate_features=False).tolist()
    assert model["sha256"] == hashlib.sha256(booster.save_raw("ubj")).hexdigest()
    assert model["uri"] == f"models:/{MODEL}/1"
    assert model["alias"] == ("champion" if "@" in uri else "")
    assert (model["run_id"], model["git_commit"], model["data_digest"]) == (registered, "0123abc", "d1ge57")
    assert model["parameters"] == {"max_depth": "3"}
    assert model["metrics"] == {"auc": 0.9}
    assert model["environment"] == {"python": "3.13.0"}
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [f"{MODEL}-1"]


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("models:/nobody@champion", "MLflow answers: Registered Model with name=nobody not found"),
        (f"models:/{MODEL}@nobody", "MLflow answers: Registered model alias nobody not found"),
        (f"models:/{MODEL}/99", f"MLflow answers: Model Version (name={MODEL}, version=99) not found"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_unknown_model_is_named(mlflow_server: str, tmp_path: Path, uri: str, cause: str) -> None:
    assert failure(uri, mlflow_server, tmp_path, 1.5) == (
        f"Cannot load {uri} from {mlflow_server}: {cause}; register it first, or correct the URI."
    )


@pytest.mark.usefixtures("registered")
def test_recovers_when_mlflow_comes_back(mlflow_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with closed_door(mlflow_server) as (address, open_door):
        settings = settings_for(f"models:/{MODEL}@champion", tmp_path, mlflow_tracking_uri=address)
        with TestClient(create_app(settings)) as client:
            until(lambda: "connection was refused" in str(client.get("/health/ready").json()["reasons"]))

            open_door()

            until(lambda: client.get("/health/ready").status_code == 200)
    assert caplog.text.count("connection was refused") <= 3  # one line per attempt


@pytest.mark.usefixtures("registered")
def test_changed_bytes_of_a_version_with_a_digest_are_refused(
    mlflow_server: str, tmp_path: Path, booster: xgb.Booster
) -> None:
    digest = hashlib.sha256(booster.save_raw("ubj")).hexdigest()
    tag = {"name": MODEL, "version": "1", "key": "sha256"}
    call(mlflow_server, "POST", "mlflow/model-versions/set-tag", tag | {"value": "0" * 64})
    try:
        found = failure(f"models:/{MODEL}/1", mlflow_server, tmp_path, 30)
    finally:
        call(mlflow_server, "DELETE", "mlflow/model-versions/delete-tag", tag)

    assert f"{MODEL_FILE} of version 1 has sha256 {digest}, but {'0' * 64} was registered" in found
    assert list((tmp_path / "cache").iterdir()) == []


def call(address: str, method: str, path: str, body: dict[str, str]) -> None:
    request = Request(f"{address}/api/2.0/{path}", json.dumps(body).encode(), method=method)  # noqa: S310
    request.add_header("Content-Type", "application/json")
    with urlopen(request, timeout=10) as response:  # noqa: S310 - a test's own server
        assert response.status == 200


@contextmanager
def closed_door(address: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield an address that refuses connections, and what lets them through to `address`."""
    server = urlsplit(address)
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def carry(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                inside, _ = door.accept()
            except OSError:
                return
            outside = socket.create_connection((server.hostname, server.port))
            pair = [
                threading.Thread(target=carry, args=(inside, outside)),
                threading.Thread(target=carry, args=(outside, inside)),
            ]
            for thread in pair:
                thread.start()
            for thread in pair:
                thread.join()
            inside.close()
            outside.close()

    def open_door() -> None:
        door.listen()
        threads.append(threading.Thread(target=accept))
        threads[0].start()

    yield f"http://127.0.0.1:{door.getsockname()[1]}", open_door
    if threads:
        door.shutdown(socket.SHUT_RDWR)
        threads[0].join(10)
    door.close()
