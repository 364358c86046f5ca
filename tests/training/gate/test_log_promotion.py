"""The loop from serving to retraining: a service, its labels, a model of its log, and the gate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from tests.app.kinds import KINDS
from tests.app.monitoring.test_inference_log import logging_service
from tests.training.conftest import Result, Server
from tests.training.gate.test_promote import proposed
from training.gate.promote import promote
from training.tracking import manifest

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
NAME = "of-the-log"
ROWS = 500


def test_model_of_the_log_passes_the_gate(
    server: Server, trained: Callable[..., dict[str, Any]], command: Callable[..., Result], tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(server.uri)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "key").write_text("a-key-0123456789")
    KINDS["binary"].save(tmp_path / "model")
    log = (tmp_path / "log").as_uri()
    names, classes = list(KINDS["binary"].frame.columns), KINDS["binary"].contract["classes"]

    def ask(seed: int) -> None:
        """Ask for rows, label them by what they contain, and ship both."""
        rows = np.random.default_rng(seed).random((ROWS, len(names)), dtype=np.float32).tolist()
        uri = (tmp_path / "model").as_uri()
        with logging_service(uri, tmp_path, feedback_keys_dir=tmp_path / "keys") as client:
            tokens = client.post("/predict", json={"columns": names, "data": rows}).json()["tokens"]
            found = [
                {"token": token, "label": classes[row[0] + row[1] > 1]} for token, row in zip(tokens, rows, strict=True)
            ]
            assert client.post("/feedback", json={"labels": found}).json()["accepted"] == ROWS
        assert command("ship", f"--segments={tmp_path}/segments", f"--log-uri={log}", "--pod=a", "--once").code == 0

    def train(rounds: int, until: str) -> dict[str, Any]:
        given = (f"--from-log={log}", "--target=y", f"--log-until={until}", f"--rounds={rounds}")
        return trained(server, NAME, *given, "--early-stopping-rounds=0")

    ask(1)
    first = train(1, "2999-01-01")
    assert promote(server.client, proposed(server.client, first["version"], NAME)).outcome == "promoted"
    ask(2)
    second = train(60, "2999-01-02")

    found = promote(server.client, proposed(server.client, second["version"], NAME))

    assert found.outcome == "promoted"
    assert "rows were not used to train either model" in found.reason
    known = manifest.read(server.client, server.client.get_model_version(NAME, second["version"]).run_id or "")
    assert (known.data.rows, known.data.columns, known.data.target) == (2 * ROWS, tuple(names), "y")
    assert known.split.key == ("prediction_id",)
    assert known.data.spec.source.startswith(f"log:{log}?until=2999-01-02")
