"""A service with a worker: the containers of a pod, as processes of this machine."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from app.loading import keep_trying
from app.registry.staged import FOLDER, PROGRAM, WORKER
from app.settings import Settings
from app.stage import stage
from tests.app.harness import serving, settings_for

PATIENCE_SECONDS = 600  # importing MLflow and scikit-learn takes minutes on a busy machine


def pyfunc_settings(uri: str, place: Path, **changes: Any) -> Settings:
    """Return the settings of a service with a worker. Its socket has a short path, as Unix sockets must."""
    path = Path(tempfile.mkdtemp(prefix="worker")) / "socket"
    more = {"model_flavor": "pyfunc", "worker_socket": path, "load_timeout_seconds": PATIENCE_SECONDS}
    return settings_for(uri, place, **(more | changes))


def staged(settings: Settings) -> None:
    """Do what the init container does."""
    keep_trying(settings, lambda times: stage(settings, times), lambda _: None, threading.Event())


@contextmanager
def worker(
    settings: Settings, python: str | Path = sys.executable, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker of a staged model, and yield its supervisor."""
    cache, place = settings.cache_dir, settings.worker_socket.parent
    command = [python, "-m", PROGRAM, "--model", cache / FOLDER, "--socket", settings.worker_socket]
    with (place / "log").open("ab") as log:
        running = subprocess.Popen(
            [*command, "--message", place / "message"],
            cwd=cache / WORKER,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(20)  # until the service has disconnected
        except subprocess.TimeoutExpired:
            subprocess.run(["pkill", "-KILL", "-P", str(running.pid)], check=False)
            running.kill()
            running.wait()


def log_of(settings: Settings) -> str:
    """Return what the worker printed."""
    return (settings.worker_socket.parent / "log").read_text()


def model_process(running: subprocess.Popen[bytes]) -> int:
    """Return the process that runs the model, 0 while there is none."""
    found = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=False)
    return int(found.stdout.split()[0]) if found.stdout else 0


@contextmanager
def serving_model(settings: Settings, python: str | Path = sys.executable) -> Iterator[TestClient]:
    """Yield a client of a service with a worker, once the model is loaded."""
    staged(settings)
    with worker(settings, python), serving(settings, PATIENCE_SECONDS) as client:
        yield client
