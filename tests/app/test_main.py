"""The process: start, failures and shutdown."""

import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import xgboost
from mlflow import MlflowClient

from app import __version__
from app.http.server import Server
from app.model.digest import digest_of
from app.model.files import ModelFiles
from tests.app.harness import (
    MODEL,
    ROOT,
    SERVICE,
    environment,
    process,
    running_service,
    serving,
    settings_for,
    silent_server,
)
from tools.loopback import answers, until


def test_serving_imports_neither_mlflow_nor_training_nor_pandas() -> None:
    blocked = ("mlflow", "training", "pandas", "sklearn", "scipy")
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import app.main, app.model.booster; "
    program += "app.model.booster.version(); assert 'xgboost' not in sys.modules"

    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr


def test_version_equals_that_of_the_project() -> None:
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_unreachable_mlflow_ends_the_process_with_a_message(tmp_path: Path) -> None:
    changes = {
        "MODEL_SERVICE_MLFLOW_TRACKING_URI": "http://user:geheim@127.0.0.1:9",
        "MODEL_SERVICE_LOAD_TIMEOUT_SECONDS": "2",
    }
    with process(SERVICE, tmp_path / "log", **environment("models:/m@champion", tmp_path, **changes)) as running:
        assert running.wait(30) == 1

    sentence = (
        "Cannot load models:/m@champion from http://127.0.0.1:9: the connection was refused; "
        "check that MODEL_SERVICE_MLFLOW_TRACKING_URI (mlflow.trackingUri in the chart) is correct "
        "and that MLflow is running."
    )
    log = (tmp_path / "log").read_text()
    assert (tmp_path / "termination").read_text() == sentence + "\n"
    assert [line["message"] for line in map(json.loads, log.splitlines()) if line["level"] == "error"] == [sentence]
    assert "geheim" not in log


def test_misconfiguration_ends_the_process_immediately(tmp_path: Path) -> None:
    with process(SERVICE, tmp_path / "log", **environment("churn", tmp_path)) as running:
        assert running.wait(30) == 1

    assert (tmp_path / "termination").read_text().startswith("The service is misconfigured: MODEL_SERVICE_MODEL_URI")


def test_damaged_model_ends_the_process_with_a_message(copied: Path, tmp_path: Path) -> None:
    (copied / "model.ubj").write_bytes((copied / "model.ubj").read_bytes()[:-100])
    with process(SERVICE, tmp_path / "log", **environment(copied.as_uri(), tmp_path)) as running:
        assert running.wait(30) == 1

    assert (
        "model.ubj is damaged or not a model file of XGBoost: it is truncated" in (tmp_path / "termination").read_text()
    )


@pytest.mark.parametrize("source", ["folder", "registry"])
def test_wrong_digest_ends_the_process_with_a_message(
    saved: Path, tmp_path: Path, source: str, request: pytest.FixtureRequest
) -> None:
    changes, uri = {"MODEL_SERVICE_MODEL_SHA256": "0" * 64}, saved.as_uri()
    if source == "registry":
        request.getfixturevalue("registered")
        uri = f"models:/{MODEL}@champion"
        changes["MODEL_SERVICE_MLFLOW_TRACKING_URI"] = request.getfixturevalue("mlflow_server")
    with process(SERVICE, tmp_path / "log", **environment(uri, tmp_path, **changes)) as running:
        assert running.wait(30) == 1

    assert f"but {'0' * 64} is pinned (MLmodel " in (tmp_path / "termination").read_text()


@pytest.mark.parametrize("checked", [True, False])
def test_each_step_from_start_to_shutdown_is_one_log_line(saved: Path, tmp_path: Path, checked: bool) -> None:
    content = (saved / "model.ubj").read_bytes()
    if not checked:
        saved = Path(shutil.copytree(saved, tmp_path / "model"))
        (saved / "input_example.json").unlink()
    digest = digest_of(ModelFiles(saved).digests())
    pinned = digest if checked else ""
    with running_service(saved.as_uri(), tmp_path, MODEL_SERVICE_MODEL_SHA256=pinned) as running:
        pass

    lines = own_lines(running.log)
    assert [line.pop("message") for line in lines] == [
        *("loading", "model found", "model read", "booster built", "warmed up", "drift is not counted", "ready"),
        *("draining", "ended"),
    ]
    loading, found, read, built, warmed, drift, ready, draining, ended = lines
    assert drift == {"why": "contract.json has no reference profile"}
    assert loading == {"uri": saved.as_uri(), "most_seconds": 120.0}
    assert found == {"folder": str(saved)}
    assert read == {"sha256": digest, "pinned": checked, "bytes": len(content)}
    assert 0 < built.pop("seconds") < 10
    assert built == {"objective": "binary:logistic", "features": 3, "xgboost_version": xgboost.__version__}
    assert 0 <= warmed.pop("seconds") < 10
    assert warmed == (
        {"rows": 2, "rows_of": "the input example"}
        if checked
        else {"rows": 1, "rows_of": "missing values, because the model has no input example"}
    )
    assert 0 < ready.pop("seconds") < 10
    assert ready == {"uri": saved.as_uri(), "version": digest[:12], "origin": "folder"}
    assert draining == {"connections": 0, "most_seconds": 30}
    assert 0 <= ended["seconds"] < 10


@pytest.mark.parametrize("tagged", [True, False])
def test_registry_steps_are_logged_without_credentials(
    mlflow_server: str, registered: str, booster: xgboost.Booster, tmp_path: Path, tagged: bool
) -> None:
    changes = {"MODEL_SERVICE_MLFLOW_TRACKING_URI": mlflow_server.replace("://", "://user:geheim@")}
    client = MlflowClient(mlflow_server)
    if tagged:
        client.set_model_version_tag(MODEL, "1", "sha256", hashlib.sha256(booster.save_raw("ubj")).hexdigest())
    try:
        with running_service(f"models:/{MODEL}@champion", tmp_path, **changes) as running:
            pass
    finally:
        if tagged:
            client.delete_model_version_tag(MODEL, "1", "sha256")

    loading, resolved, downloaded, read, *rest = own_lines(running.log)
    assert loading == {
        "message": "loading",
        "uri": f"models:/{MODEL}@champion",
        "tracking_address": mlflow_server,
        "most_seconds": 120.0,
    }
    assert resolved == {"message": "model resolved", "version": "1", "alias": "champion", "run_id": registered}
    folder = tmp_path / "cache" / f"{MODEL}-1"
    assert 0 < downloaded.pop("seconds") < 30
    assert downloaded == {
        "message": "model downloaded",
        "files": ["MLmodel", "model.ubj", "input_example.json"],
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "folder": str(folder),
        "digest": "as registered: model.ubj" if tagged else "none registered",
    }
    assert (read["message"], read["pinned"]) == ("model read", False)
    assert [line["message"] for line in rest] == [
        "booster built",
        "warmed up",
        "drift is not counted",
        "ready",
        "draining",
        "ended",
    ]
    assert "geheim" not in running.log.read_text()


def own_lines(log: Path) -> list[dict[str, Any]]:
    """Return the lines of the service's own loggers without time, level and logger; all must have level info."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    own = [line for line in lines if line["logger"].startswith("app.")]
    assert {line["level"] for line in own} == {"info"}
    assert all(line["time"].endswith("+00:00") for line in own)
    return [{key: line[key] for key in line.keys() - {"time", "level", "logger"}} for line in own]


def test_service_listens_on_ipv4_and_ipv6(saved: Path, tmp_path: Path) -> None:
    with running_service(saved.as_uri(), tmp_path) as running:
        assert answers(f"http://127.0.0.1:{running.port}/health/ready")
        assert answers(f"http://[::1]:{running.port}/health/ready")


def test_service_listens_on_ipv4_where_ipv6_is_absent(saved: Path, tmp_path: Path) -> None:
    variables = environment(saved.as_uri(), tmp_path)
    with process(["tests/without_ipv6.py", *SERVICE], tmp_path / "log", **variables):
        until(lambda: answers(f"http://127.0.0.1:{variables['MODEL_SERVICE_PORT']}/health/ready"))
        assert not answers(f"http://[::1]:{variables['MODEL_SERVICE_PORT']}/health/ready")


def test_latency_objective_is_an_extra_bucket(saved: Path, tmp_path: Path) -> None:
    with running_service(saved.as_uri(), tmp_path, MODEL_SERVICE_LATENCY_OBJECTIVE_SECONDS="0.3") as running:
        answers(f"{running.address}/model")  # the first request creates the series
        until(lambda: b'le="0.3"' in metrics(running.port))
        assert b'le="0.25"' in metrics(running.port)


def test_sigterm_lets_a_request_finish_and_exits_with_0(saved: Path, tmp_path: Path) -> None:
    variables = environment(saved.as_uri(), tmp_path, MODEL_SERVICE_SHUTDOWN_SECONDS="20")
    port = int(variables["MODEL_SERVICE_PORT"])
    body = json.dumps({"instances": [{"mean radius": 1, "texture": 1, "count": 1}]}).encode()
    with process(SERVICE, tmp_path / "log", **variables) as running:
        until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        with socket.create_connection(("127.0.0.1", port), 10) as caller:
            caller.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:9])
            until(lambda: b'requests_in_progress{app_name="model-service",method="POST"} 1' in metrics(port))

            running.terminate()
            until(lambda: not answers(f"http://127.0.0.1:{port}/health/live"))
            caller.sendall(body[9:])
            answer = caller.makefile("rb").read()

        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b'"predictions"' in answer
        assert running.wait(10) == 0


def test_sigterm_while_loading_exits_immediately(tmp_path: Path) -> None:
    variables = environment("models:/m/1", tmp_path, MODEL_SERVICE_MLFLOW_TRACKING_URI=silent_server())
    with process(SERVICE, tmp_path / "log", **variables) as running:
        until(lambda: answers(f"http://127.0.0.1:{variables['MODEL_SERVICE_PORT']}/health/live"))
        begin = time.monotonic()
        running.terminate()

        assert running.wait(20) == 0
    assert time.monotonic() - begin < 5


def test_shutdown_does_not_exceed_its_time_limit(saved: Path, tmp_path: Path) -> None:
    variables = environment(saved.as_uri(), tmp_path, MODEL_SERVICE_SHUTDOWN_SECONDS="1")
    port = int(variables["MODEL_SERVICE_PORT"])
    with process(SERVICE, tmp_path / "log", **variables) as running:
        until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        with socket.create_connection(("127.0.0.1", port), 10) as caller:
            caller.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
            until(lambda: b'requests_in_progress{app_name="model-service",method="POST"} 1' in metrics(port))
            begin = time.monotonic()
            running.terminate()
            running.wait(10)

    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_fails_readiness_immediately_but_requests_are_answered(
    saved: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with serving(settings_for(saved.as_uri(), tmp_path)) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        example = client.get("/model").json()["input_example"]

        Server(uvicorn.Config(client.app), service).handle_exit(number, None)

        assert client.get("/health/ready").status_code == 503
        assert client.get("/health").json()["reasons"] == ["shutting down"]
        assert client.get("/health/live").status_code == 200
        assert client.post("/predict", json=example).status_code == 200


def metrics(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as caller:
        caller.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return caller.makefile("rb").read()
