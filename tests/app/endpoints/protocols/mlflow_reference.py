"""MLflow's scoring server as the reference, with the model in a folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import uvicorn

from tests.app.harness import process
from tools.loopback import answers, free_port, until


@contextmanager
def command(folder: Path) -> Iterator[str]:
    """Run `mlflow models serve` and yield its address."""
    port = free_port()
    serve = ["-m", "mlflow", "models", "serve", "--env-manager", "local", "--model-uri", str(folder / "model")]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    (starter := folder / "uvicorn").write_text(f'#!/bin/sh\nexec {sys.executable} -m uvicorn "$@"\n')
    starter.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"  # mlflow finds uvicorn on PATH
    with process([*serve, *where], folder / "reference", MLFLOW_DISABLE_TELEMETRY="true", PATH=path):
        until(lambda: answers(f"http://127.0.0.1:{port}/ping"))
        yield f"http://127.0.0.1:{port}"


@contextmanager
def application(folder: Path) -> Iterator[str]:
    """Run the application of `mlflow models serve` in a thread, which starts faster, and yield its address."""
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(
            "_MLFLOW_IS_IN_SERVING_ENVIRONMENT", ""
        )  # MLflow changes this variable; the context restores it
        served = scoring_server.init(mlflow.pyfunc.load_model(str(folder / "model")))
        server = uvicorn.Server(uvicorn.Config(served, port=free_port(), log_config=None))
        (thread := Thread(target=server.run)).start()
        try:
            until(lambda: server.started)
            yield f"http://127.0.0.1:{server.config.port}"
        finally:
            server.should_exit = True
            thread.join()
