"""The start of the server: a real MLflow that answers on both address families."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_server.check import check
from tools.cluster.cache import ROOT
from tools.loopback import answers, free_port, until

START_SECONDS = 300  # on a busy machine


def test_host_is_ipv4_where_ipv6_is_absent() -> None:
    program = "from mlflow_server.serve import host; print(host(1), host(2))"
    command = [sys.executable, "tests/without_ipv6.py", "-c", program]

    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True)

    assert done.stdout == "0.0.0.0 0.0.0.0\n", done.stderr


@contextmanager
def serving(folder: Path, port: int, workers: str, *options: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a server that starts."""
    environment = {
        **os.environ,
        "MLFLOW_WORKERS": workers,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **more,
    }
    command = [sys.executable, "-m", "mlflow_server.serve", f"--port={port}", *options]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            yield server
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_server_answers_on_both_families_and_ends_with_sigterm(tmp_path: Path, workers: str) -> None:
    port = free_port()
    with serving(tmp_path, port, workers) as server:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"), START_SECONDS)
        assert answers(f"http://[::1]:{port}/health")
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def test_prefix_moves_everything_but_the_metrics(tmp_path: Path) -> None:
    """The chart moves probes, routes and clients to the prefix, and leaves the ServiceMonitor at /metrics."""
    port = free_port()
    metrics = {"MLFLOW_EXPOSE_PROMETHEUS": str(tmp_path / "prometheus")}
    destination = f"--artifacts-destination={tmp_path}/artifacts"
    with serving(tmp_path, port, "1", "--serve-artifacts", destination, "--static-prefix", "/ml", **metrics):
        until(lambda: answers(f"http://127.0.0.1:{port}/ml/health"), START_SECONDS)
        run = check(MlflowClient(f"http://127.0.0.1:{port}/ml"))

        assert run
        assert answers(f"http://127.0.0.1:{port}/metrics")
        assert not answers(f"http://127.0.0.1:{port}/health")
        assert not answers(f"http://127.0.0.1:{port}/ml/metrics")
