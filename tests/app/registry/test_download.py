"""Registered models, downloaded from a real MLflow server."""

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

from app.errors import LoadError
from app.loading import describe
from app.main import create_app
from app.model.booster import Matrix
from app.model.contract import MODEL_FILE
from app.model.digest import digest_of, lines_of
from tests.app.harness import COLUMNS, MODEL, serving, settings_for
from tests.app.workers import staged
from tools.loopback import until


def failure(uri: str, address: str, tmp_path: Path, seconds: float, **changes: str) -> str:
    """Return the reason why a model does not load."""
    settings = settings_for(uri, tmp_path, mlflow_tracking_uri=address, load_timeout_seconds=seconds, **changes)
    failures: list[str] = []
    if settings.model_flavor == "pyfunc":
        with pytest.raises(LoadError) as refusal:
            staged(settings)
        failures.append(describe(settings, refusal.value))
    else:
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
    assert model["files"][MODEL_FILE] == hashlib.sha256(booster.save_raw("ubj")).hexdigest()
    assert model["sha256"] == digest_of(model["files"])
    assert model["uri"] == f"models:/{MODEL}/1"
    assert model["alias"] == ("champion" if "@" in uri else "")
    assert (model["run_id"], model["git_commit"], model["data_digest"]) == (registered, "0123abc", "d1ge57")
    assert model["parameters"] == {"max_depth": "3"}
    assert model["metrics"] == {"auc": 0.9}
    assert model["environment"] == {"python": "3.13.0"}
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [f"{MODEL}-1", "record.json"]


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
def test_service_recovers_when_mlflow_is_reachable_again(
    mlflow_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with closed_door(mlflow_server) as (address, open_door):
        settings = settings_for(f"models:/{MODEL}@champion", tmp_path, mlflow_tracking_uri=address)
        with TestClient(create_app(settings)) as client:
            until(lambda: "connection was refused" in str(client.get("/health/ready").json()["reasons"]))

            open_door()

            until(lambda: client.get("/health/ready").status_code == 200)
    assert caplog.text.count("connection was refused") <= 3  # one line per attempt


@contextmanager
def tagged(server: str, **tags: str) -> Iterator[None]:
    """Set tags of version 1 within the block."""
    version = {"name": MODEL, "version": "1"}
    for key, value in tags.items():
        call(server, "POST", "mlflow/model-versions/set-tag", version | {"key": key, "value": value})
    try:
        yield
    finally:
        for key in tags:
            call(server, "DELETE", "mlflow/model-versions/delete-tag", version | {"key": key})


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("flavor", ["xgboost", "pyfunc"])
def test_model_that_does_not_match_its_registered_digest_is_rejected(
    mlflow_server: str, tmp_path: Path, flavor: str
) -> None:
    with tagged(mlflow_server, sha256="0" * 64):
        found = failure(f"models:/{MODEL}/1", mlflow_server, tmp_path, 30, model_flavor=flavor)

    assert f"but {'0' * 64} was registered (MLmodel " in found
    assert "; find out who changed it, and register a new version" in found
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("registered")
def test_file_that_changed_since_registration_is_named(mlflow_server: str, tmp_path: Path) -> None:
    with serving(settings_for(f"models:/{MODEL}/1", tmp_path, mlflow_tracking_uri=mlflow_server)) as client:
        files = client.get("/model").json()["files"]
    before = files | {"input_example.json": "0" * 64, "contract.json": "1" * 64}

    with tagged(mlflow_server, sha256=digest_of(before), file_digests=lines_of(before)):
        found = failure(f"models:/{MODEL}/1", mlflow_server, tmp_path, 30)

    example = files["input_example.json"][:12]
    assert f"(contract.json is missing; input_example.json has {example} instead of {'0' * 12})" in found


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("covers", ["deciding files", "model.ubj"])
@pytest.mark.parametrize("flavor", ["xgboost", "pyfunc"])
def test_registered_digest_of_training_is_accepted_for_every_flavor(
    mlflow_server: str, booster: xgb.Booster, tmp_path: Path, covers: str, flavor: str
) -> None:
    """Earlier releases registered the digest of model.ubj alone."""
    settings = settings_for(f"models:/{MODEL}/1", tmp_path, mlflow_tracking_uri=mlflow_server)
    with serving(settings) as client:
        known = client.get("/model").json()
    alone = hashlib.sha256(booster.save_raw("ubj")).hexdigest()

    with tagged(mlflow_server, sha256=alone if covers == "model.ubj" else known["sha256"]):
        if flavor == "pyfunc":
            staged(settings.model_copy(update={"model_flavor": flavor}))
            return
        with serving(settings) as client:
            assert client.get("/model").json()["files"].items() >= known["files"].items()


def call(address: str, method: str, path: str, body: dict[str, str]) -> None:
    request = Request(f"{address}/api/2.0/{path}", json.dumps(body).encode(), method=method)  # noqa: S310
    request.add_header("Content-Type", "application/json")
    with urlopen(request, timeout=300) as response:  # noqa: S310 - a test's own server
        assert response.status == 200


@contextmanager
def closed_door(address: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield an address that refuses connections, and a function that forwards them to `address` from then on."""
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
