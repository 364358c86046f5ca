"""The worker under load when it is killed, hangs or fails: each request gets its own answer or a reason."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.models import infer_signature
from starlette.testclient import TestClient

from app.settings import Settings
from tests.app.harness import serving
from tests.app.model.test_pyfunc import save_code
from tests.app.workers import PATIENCE_SECONDS, log_of, model_process, pyfunc_settings, staged, worker
from tools.loopback import until

# Doubles its input. Some numbers make it fail in a particular way.
MOODY = """
import os, sys, time
import mlflow.pyfunc

class Moody(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        values = model_input["x"]
        if (values == -1).any():
            raise ValueError(f"secret {list(values)}")
        if (values == -2).any():
            time.sleep(60)
        if (values == -3).any():
            os._exit(7)
        if (values == -4).any():
            return values[:-1]
        return values * 2

mlflow.models.set_model(Moody())
"""
FRAME = pd.DataFrame({"x": [1.0, 2.0]})


class Pod:
    """A service with a worker, and the supervisor of the worker."""

    def __init__(self, client: TestClient, settings: Settings, supervisor: Any) -> None:
        self.client, self.settings, self.supervisor = client, settings, supervisor

    def ask(self, x: float) -> Any:
        return self.client.post("/predict", json={"instances": [{"x": x}]})

    def ready(self) -> bool:
        return bool(self.client.get("/health/ready").status_code == 200)

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f'{name}{{model_name="moody"')).split()[-1])


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    place = tmp_path_factory.mktemp("moody")
    folder = save_code(place / "model", MOODY, signature=infer_signature(FRAME, FRAME["x"]), input_example=FRAME)
    settings = pyfunc_settings(folder.as_uri(), place, model_name="moody", request_timeout_seconds=15)
    staged(settings)
    with worker(settings) as supervisor, serving(settings, PATIENCE_SECONDS) as client:
        yield Pod(client, settings, supervisor)


def test_concurrent_requests_are_combined_and_get_their_own_answers(pod: Pod) -> None:
    before = pod.metric("model_worker_call_duration_seconds_count")
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(pod.ask, range(200)))

    assert [answer.json()["predictions"] for answer in answers] == [[2.0 * x] for x in range(200)]
    assert pod.metric("model_worker_call_duration_seconds_count") - before < 200
    assert pod.metric("model_worker_memory_bytes") > 50e6
    assert pod.metric("model_worker_ready") == 1


def test_exception_fails_only_the_request_that_causes_it(pod: Pod) -> None:
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(pod.ask, [-1.0 if x % 10 == 0 else float(x) for x in range(100)]))

    assert [answer.status_code for answer in answers] == [500 if x % 10 == 0 else 200 for x in range(100)]
    assert answers[0].json()["type"] == "urn:model-service:model-fault"
    assert "the model raised ValueError" in log_of(pod.settings)
    assert "secret" not in log_of(pod.settings)
    assert pod.ready()


def test_output_without_a_row_per_input_row_is_a_model_fault(pod: Pod) -> None:
    assert pod.ask(-4.0).status_code == 500


@pytest.mark.parametrize("end", ["killed", "exits"])
def test_worker_that_ends_under_load_gives_no_wrong_answer_and_restarts(pod: Pod, end: str) -> None:
    until(pod.ready, PATIENCE_SECONDS)
    losses = pod.metric("model_worker_restarts_total")
    stop = threading.Event()
    seen: Counter[int] = Counter()
    wrong = []

    def call(first: int) -> None:
        x = first
        while not stop.is_set():
            answer = pod.ask(float(x))
            seen[answer.status_code] += 1
            if answer.status_code == 200 and answer.json()["predictions"] != [2.0 * x]:
                wrong.append(x)
            x += 8

    with ThreadPoolExecutor(9) as callers:
        running = [callers.submit(call, first) for first in range(8)]
        try:
            until(lambda: seen[200] > 20)
            if end == "killed":
                os.kill(model_process(pod.supervisor), signal.SIGKILL)
            else:
                assert pod.ask(-3.0).status_code == 503
            until(lambda: seen[503])
            reasons = pod.client.get("/health/ready").json()["reasons"]
            until(pod.ready, PATIENCE_SECONDS)
            before = seen[200]
            until(lambda: seen[200] > before + 20)
        finally:
            stop.set()
        for each in running:
            each.result()

    assert wrong == []
    assert set(seen) == {200, 503}
    assert reasons == [] or "the model's process restarts" in reasons[0]
    assert pod.metric("model_worker_restarts_total") == losses + 1


def test_call_that_hangs_gets_504_and_the_process_is_replaced(pod: Pod) -> None:
    until(pod.ready, PATIENCE_SECONDS)
    before, losses = model_process(pod.supervisor), pod.metric("model_worker_restarts_total")

    begin = time.monotonic()
    answer = pod.ask(-2.0)

    assert answer.status_code == 504
    assert time.monotonic() - begin < 40
    until(lambda: pod.metric("model_worker_restarts_total") > losses)
    until(pod.ready, PATIENCE_SECONDS)
    assert model_process(pod.supervisor) != before
    assert pod.ask(3.0).json()["predictions"] == [6.0]


def test_stopped_process_gets_504(pod: Pod) -> None:
    """A process that does not react at all is killed from outside."""
    until(pod.ready, PATIENCE_SECONDS)
    losses = pod.metric("model_worker_restarts_total")
    os.kill(model_process(pod.supervisor), signal.SIGSTOP)

    answer = pod.ask(1.0)

    assert answer.status_code == 504
    until(lambda: pod.metric("model_worker_restarts_total") > losses)
    until(pod.ready, PATIENCE_SECONDS)
    assert pod.ask(3.0).json()["predictions"] == [6.0]


def test_staged_files_are_those_of_the_model(pod: Pod, tmp_path: Path) -> None:
    del tmp_path
    known = pod.client.get("/model").json()["files"]
    served = pod.settings.cache_dir / "served"

    assert sorted(known) == sorted(str(path.relative_to(served)) for path in served.rglob("*") if path.is_file())
