"""A real MLflow server for the session, and `python -m training` against it."""

import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.s3 import s3_server
from tests.training.postgresql import database
from training.__main__ import main

START_SECONDS = 300  # on a busy machine; an idle one takes 8


@dataclass(frozen=True)
class Server:
    """A running MLflow server and its folder of artifacts."""

    uri: str
    artifacts: Path

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    def model_folder(self, name: str, version: str) -> Path:
        """Return the folder on the server's disk that holds a version's files."""
        model_id = str(self.client.get_model_version(name, version).source).removeprefix("models:/")
        return next(self.artifacts.glob(f"*/models/{model_id}/artifacts"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    with database() as uri:
        yield from _serve(folder, uri)


def _serve(folder: Path, database_uri: str) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [
        f"--backend-store-uri={database_uri}",
        f"--artifacts-destination={folder}/files",
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = folder / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield Server(f"http://127.0.0.1:{port}", folder / "files")
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 our own http URL
                return
        except OSError:  # refused, reset or slow: all mean "not yet"
            time.sleep(0.2)
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()}")


@pytest.fixture
def broken_artifact_store(server: Server) -> Iterator[Callable[[], None]]:
    """Replace the folder of artifacts by a file, as a lost volume would, and yield a function that repairs it."""
    server.artifacts.mkdir(exist_ok=True)
    aside = server.artifacts.rename(server.artifacts.with_name("aside"))
    server.artifacts.touch()

    def repair() -> None:
        if aside.exists():
            server.artifacts.unlink()
            aside.rename(server.artifacts)

    yield repair
    repair()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run a real S3 server with a bucket `data`, and yield the folder of the bucket."""
    (tmp_path / "s3" / "data").mkdir(parents=True)
    with s3_server(tmp_path / "s3") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield tmp_path / "s3" / "data"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Remove the variables of the caller, and undo those that MLflow sets: it exports its tracking URI."""
    monkeypatch.setenv("TRAINING_KEEP_DIR", str(tmp_path / "kept"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "GIT_COMMIT"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@dataclass(frozen=True)
class Result:
    """The exit code, output and messages of a command."""

    code: int
    stdout: str
    messages: list[str]

    @property
    def published(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return answer


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[..., Result]:
    """Return a function that runs a command in this process, because importing MLflow takes seconds."""

    def run(*argv: str) -> Result:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            code = main(argv)
        errors = [record.getMessage() for record in caplog.records if record.name == "training"]
        return Result(code, capsys.readouterr().out, errors)

    return run


@pytest.fixture
def run(command: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that trains."""
    return partial(command, "train")


@pytest.fixture(scope="session")
def trained() -> Callable[..., dict[str, Any]]:
    """Return a function that trains and registers a version without moving an alias."""

    def trained(server: Server, name: str, *argv: str) -> dict[str, Any]:
        output = io.StringIO()
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(output):
            code = main(["train", f"--mlflow-tracking-uri={server.uri}", f"--model-name={name}", *argv])
        assert code == 0
        answer: dict[str, Any] = json.loads(output.getvalue().splitlines()[-1])
        return answer

    return trained
