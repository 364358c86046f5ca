"""The start of the server: a real MLflow that answers on both address families."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cluster.cache import ROOT
from tools.loopback import answers, free_port, until

START_SECONDS = 300  # on a busy machine


def test_host_is_ipv4_where_ipv6_is_absent() -> None:
    program = "from mlflow_server.serve import host; print(host(1), host(2))"
    command = [sys.executable, "tests/without_ipv6.py", "-c", program]

    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True)

    assert done.stdout == "0.0.0.0 0.0.0.0\n", done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_server_answers_on_both_families_and_ends_with_sigterm(tmp_path: Path, workers: str) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "MLFLOW_WORKERS": workers,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow_server.serve", f"--port={port}"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/health"), START_SECONDS)
            assert answers(f"http://[::1]:{port}/health")
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
