"""The README's way to serve a model that was logged without this project: its very blocks are run."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.training.conftest import Server

ROOT = Path(__file__).parents[2]


def test_quickstart_serves_a_model_logged_by_hand(server: Server) -> None:
    text = (ROOT / "README.md").read_text().partition("### Serve a model that you logged yourself")[2]
    python, shell = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)[0] for kind in ("python", "sh"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri, "MODEL_SERVICE_PORT": port}
    shell = shell.replace("localhost:8000", f"localhost:{port}")

    subprocess.run([sys.executable, "-c", python], env=environment, cwd=ROOT, check=True, timeout=300)
    with subprocess.Popen(
        ["bash", "-ec", shell], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout
            answer = next((line for line in process.stdout if line.startswith('{"model"')), "{}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    (prediction,) = json.loads(answer)["predictions"]
    assert json.loads(answer)["model"] == {"name": "churn", "version": "1"}
    assert set(prediction["probabilities"]) == {"0", "1"}
