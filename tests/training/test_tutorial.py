"""The tutorials: their code blocks are run against a real MLflow server."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.training.conftest import Server
from tools.loopback import free_port

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 900  # a busy machine takes minutes to import MLflow


def blocks(page: str, kind: str, folder: Path) -> list[str]:
    """Return the code blocks of a tutorial; files that it keeps in build/ go to a folder of the test."""
    text = (ROOT / f"docs/tutorials/{page}.md").read_text().replace("build/", f"{folder}/")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def run(script: str, environment: dict[str, str], folder: Path) -> str:
    """Run a script with bash, stop what it left running, and return its standard output."""
    with (
        (folder / "output").open("w") as output,
        subprocess.Popen(
            ["bash", "-ec", script], env=os.environ | environment, cwd=ROOT, stdout=output, start_new_session=True
        ) as process,
    ):
        try:
            code = process.wait(TIMEOUT_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
    assert code == 0
    return (folder / "output").read_text()


def results(output: str) -> list[dict[str, Any]]:
    """Return the lines that are JSON objects."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_bring_your_own_model_serves_a_model_logged_by_hand(server: Server, tmp_path: Path) -> None:
    (python,) = blocks("bring-your-own-model", "python", tmp_path)
    (script,) = blocks("bring-your-own-model", "sh", tmp_path)
    (tmp_path / "log.py").write_text(python)
    port = str(free_port())
    script = f"{sys.executable} {tmp_path}/log.py\n" + script.replace("localhost:8000", f"localhost:{port}")

    output = run(script, {"MLFLOW_TRACKING_URI": server.uri, "MODEL_SERVICE_PORT": port}, tmp_path)

    (answer,) = (found for found in results(output) if "predictions" in found)
    assert answer["model"] == {"name": "churn", "version": "1"}
    assert set(answer["predictions"][0]["probabilities"]) == {"0", "1"}


def test_retrain_on_a_schedule_promotes_the_first_and_a_better_model(server: Server, tmp_path: Path) -> None:
    (python,) = blocks("retrain-on-a-schedule", "python", tmp_path)
    (tmp_path / "customers.py").write_text(python)
    script = "\n".join(blocks("retrain-on-a-schedule", "sh", tmp_path)).replace("churn", "churn-retrained")

    output = run(script, {"MLFLOW_TRACKING_URI": server.uri}, tmp_path)

    assert [found["outcome"] for found in results(output) if "outcome" in found] == ["promoted", "promoted", "refused"]
    assert "exit code 3" in output


def test_watch_drift_measures_a_low_and_a_high_psi(server: Server, tmp_path: Path) -> None:
    (python,) = blocks("watch-drift", "python", tmp_path)
    (tmp_path / "drift.py").write_text(python)
    port = str(free_port())
    script = "".join(blocks("watch-drift", "sh", tmp_path)).replace("localhost:8000", f"localhost:{port}")

    output = run(script, {"MLFLOW_TRACKING_URI": server.uri, "MODEL_SERVICE_PORT": port}, tmp_path)

    first, second = (found["psi"].values() for found in results(output) if "factor" in found)
    assert max(first) < 0.1
    assert min(second) > 0.2
