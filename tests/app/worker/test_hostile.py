"""Models that misbehave: each is refused or contained with a reason, and gets no secret to begin with."""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.models import infer_signature

from app.errors import LoadError
from app.model import pyfunc
from app.model.files import Provenance
from app.model.worker import WorkerOptions
from app.registry.load import load_model
from app.tools.local_worker import local_worker
from tests.app.harness import serving
from tests.app.model.test_pyfunc import save_code
from tests.app.workers import PATIENCE_SECONDS, log_of, pyfunc_settings, staged, worker
from tools.loopback import until

FRAME = pd.DataFrame({"x": [1.0, 2.0]})
BODY = """
import os, signal, sys, time
import mlflow.pyfunc

class Hostile(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        {load}

    def predict(self, context, model_input, params=None):
        values = model_input["x"]
        if (values == -1).any():
            {predict}
        return values * 2

mlflow.models.set_model(Hostile())
"""
MEMORY_BYTES = 3 << 30
ALLOCATE = "kept = [bytearray(64 << 20) for _ in range(1000)]"  # 64 GB
SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "hunter2",
    "AWS_SECRET_ACCESS_KEY": "hunter3",
    "UV_DEFAULT_INDEX": "https://u:hunter4@x",
}
# An interpreter with a limit for the memory of its processes, as the container of the model has one.
LIMITED = """#!{python}
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


def saved(place: Path, *, load: str = "pass", predict: str = "pass") -> Path:
    source = BODY.format(load=load, predict=predict)
    return save_code(place / "model", source, signature=infer_signature(FRAME, FRAME["x"]), input_example=FRAME)


def limited(place: Path) -> Path:
    path = place / "python"
    path.write_text(LIMITED.format(python=sys.executable, limit=MEMORY_BYTES))
    path.chmod(0o755)
    return path


def ask(client: Any, x: float) -> Any:
    return client.post("/predict", json={"instances": [{"x": x}]})


def test_memory_without_bound_is_a_model_fault_and_the_next_request_is_answered(tmp_path: Path) -> None:
    settings = pyfunc_settings(saved(tmp_path, predict=ALLOCATE).as_uri(), tmp_path, model_name="greedy")
    staged(settings)
    with worker(settings, limited(tmp_path)), serving(settings, PATIENCE_SECONDS) as client:
        failed, fine = ask(client, -1), ask(client, 3)

    assert failed.status_code == 500
    assert failed.json()["type"] == "urn:model-service:model-fault"
    assert fine.json()["predictions"] == [6.0]
    assert "the model raised MemoryError" in log_of(settings)


def test_model_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    settings = pyfunc_settings(saved(tmp_path, load=ALLOCATE).as_uri(), tmp_path)
    staged(settings)
    with (
        worker(settings, limited(tmp_path)),
        pytest.raises(LoadError, match=r"MLflow cannot load it \(MemoryError\); see the log of the container model"),
    ):
        load_model(settings, time.monotonic() + PATIENCE_SECONDS)


def test_model_that_blocks_while_it_loads_is_refused_at_the_deadline(tmp_path: Path) -> None:
    settings = pyfunc_settings(saved(tmp_path, load="time.sleep(600)").as_uri(), tmp_path)
    staged(settings)
    with worker(settings), pytest.raises(LoadError, match=r"took longer than|did not reply in time") as refusal:
        load_model(settings, time.monotonic() + 15)

    assert refusal.value.retryable


def test_model_that_blocks_signals_does_not_outlive_its_worker(tmp_path: Path) -> None:
    stuck = "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60)); time.sleep(6000)"
    settings = pyfunc_settings(saved(tmp_path, predict=stuck).as_uri(), tmp_path)
    staged(settings)
    deadline = time.monotonic() + PATIENCE_SECONDS
    with local_worker(settings.cache_dir, Path(sys.executable)) as path:
        options = WorkerOptions(path, 6000)
        model = pyfunc.load(settings.cache_dir / "served", Provenance("m", "", ""), options=options, deadline=deadline)
        process = int(model.worker._connection.facts["process"])  # type: ignore[union-attr]
        future = model.submit(model.signature.from_records([{"x": -1.0}]), model.signature.defaults)
        until(future.running, PATIENCE_SECONDS)

    assert not Path(f"/proc/{process}").exists()
    model.worker.close()


def test_model_that_prints_gets_no_secret_and_tells_the_service_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What the model prints is its own log. Neither the service's log nor a response repeats it."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    show = "print(dict(os.environ), 'printed', list(values)); raise ValueError(f'told {list(values)}')"
    settings = pyfunc_settings(saved(tmp_path, load="print(dict(os.environ))", predict=show).as_uri(), tmp_path)
    staged(settings)
    with local_worker(settings.cache_dir, Path(sys.executable)) as path:
        known = settings.model_copy(update={"worker_socket": path})
        with caplog.at_level(logging.DEBUG), serving(known, PATIENCE_SECONDS) as client:
            failed = ask(client, -1)

    printed = capfd.readouterr()
    assert "'PATH'" in printed.err
    assert "printed" in printed.err
    assert "hunter" not in printed.err + printed.out
    assert failed.status_code == 500
    for text in (json.dumps(failed.json()), caplog.text):
        assert "told" not in text
        assert "printed" not in text
        assert "hunter" not in text
