"""Failed runs: their status, reason and files, and no version."""

import json
import logging
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from mlflow.entities import Run
from xgboost.core import XGBoostError

from tests.app.kinds import KINDS
from tests.training.conftest import Result, Server
from training.errors import ResourceError
from training.fitting.parameter_check import refusal
from training.tracking.runs import started
from training.train_options import TrainOptions

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
QUICK = ("--rounds=5", "--early-stopping-rounds=0")


def runs(server: Server, name: str) -> list[Run]:
    experiment = server.client.get_experiment_by_name(name)
    return list(server.client.search_runs([experiment.experiment_id])) if experiment else []


def test_crash_marks_the_run_failed_with_the_reason(server: Server) -> None:
    options = TrainOptions.load("train", [f"--mlflow-tracking-uri={server.uri}", "--model-name=crashed"])

    with pytest.raises(ZeroDivisionError), started(options):
        print(1 / 0)

    (found,) = runs(server, "crashed")
    assert (found.info.status, found.data.tags["failure"]) == ("FAILED", "ZeroDivisionError: division by zero")


def test_parameter_that_xgboost_refuses_is_one_sentence(server: Server, run: Callable[..., Result]) -> None:
    result = run(
        f"--mlflow-tracking-uri={server.uri}", "--model-name=refused", *QUICK, '--params={"objective": "no:such"}'
    )

    assert result.code == 2
    assert result.messages[-1].startswith("XGBoost refuses these parameters")
    assert runs(server, "refused")[0].info.status == "FAILED"


def test_misspelled_parameter_is_refused_before_the_training(server: Server, run: Callable[..., Result]) -> None:
    result = run(f"--mlflow-tracking-uri={server.uri}", "--model-name=misspelled", *QUICK, '--params={"gama": 1}')

    assert (result.code, result.messages[-1]) == (
        2,
        "--params (TRAINING_PARAMS): XGBoost does not use gama (did you mean gamma?) with these settings.",
    )
    (found,) = runs(server, "misspelled")
    assert (found.info.status, found.data.tags["failure"]) == ("FAILED", result.messages[-1])


def test_full_disk_marks_the_run_failed(server: Server, run: Callable[..., Result]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel refuses longer files, as a full disk does
    try:
        result = run(f"--mlflow-tracking-uri={server.uri}", "--model-name=full", *QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert result.code == 2
    assert result.messages[-1].startswith("No room in ")
    assert runs(server, "full")[0].info.status == "FAILED"
    assert not server.client.search_registered_models("name='full'")


def test_files_of_an_unpublished_run_are_kept_and_uploaded_later(
    server: Server,
    command: Callable[..., Result],
    broken_artifact_store: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a failed server resets a connection
    options = (f"--mlflow-tracking-uri={server.uri}", "--model-name=lost")

    lost = command("train", *options, "--retry-seconds=0", *QUICK)
    advice = lost.messages[-1].partition("python -m training ")[2].split()
    (before,) = runs(server, "lost")
    broken_artifact_store()
    brought = command(*advice)
    (after,) = runs(server, "lost")
    whole = command("train", *options, *QUICK)

    assert (lost.code, before.info.status, brought.code, after.info.status) == (1, "FAILED", 0, "FINISHED")
    assert "failure" in before.data.tags
    assert "failure" not in after.data.tags
    assert brought.published["run_id"] == after.info.run_id
    assert brought.published["file_sha256"] == whole.published["file_sha256"]
    assert [brought.published["version"], whole.published["version"]] == ["1", "2"]


class Repairs(logging.Handler):
    """A log handler that repairs the artifact store after the first retry, however long a slow run takes until then."""

    def __init__(self, repair: Callable[[], None]) -> None:
        super().__init__()
        self._repair = repair

    def emit(self, record: logging.LogRecord) -> None:
        if "Retrying in" in record.getMessage():
            self._repair()


def test_lost_connection_is_retried(
    server: Server,
    run: Callable[..., Result],
    broken_artifact_store: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a failed server resets a connection
    repairs = Repairs(broken_artifact_store)
    logging.getLogger("training").addHandler(repairs)
    try:
        result = run(f"--mlflow-tracking-uri={server.uri}", "--model-name=patient", "--retry-seconds=120", *QUICK)
    finally:
        logging.getLogger("training").removeHandler(repairs)

    assert result.code == 0
    assert any("Retrying in" in message for message in result.messages)
    assert len(server.client.search_model_versions("name='patient'")) == 1


def test_upload_refuses_a_folder_that_train_did_not_keep(command: Callable[..., Result], tmp_path: Path) -> None:
    result = command("upload", str(tmp_path))

    assert result.code == 2
    assert "is not a folder that `train` kept" in result.messages[-1]


def test_next_run_of_a_job_marks_a_killed_run_failed(
    server: Server, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", json.dumps({"k8s.job": "nightly-1"}))
    options = (f"--mlflow-tracking-uri={server.uri}", "--model-name=stale", "--early-stopping-rounds=0")
    with subprocess.Popen(
        [sys.executable, "-m", "training", "train", *options, "--rounds=10000000"], stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 300
        while not runs(server, "stale") and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    (killed,) = runs(server, "stale")

    result = run(*options, "--rounds=5")

    assert killed.info.status == "RUNNING"
    marked = server.client.get_run(killed.info.run_id)
    assert (result.code, marked.info.status) == (0, "FAILED")
    assert marked.data.tags["failure"].endswith("of the same Job detected it")


@contextmanager
def memory_for(more: int) -> Iterator[None]:
    """Limit this process to its present memory and this number of bytes, as a container does."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("command_name", ["train", "score"])
def test_lack_of_memory_fails_the_command_at_once(
    server: Server, command: Callable[..., Result], tmp_path: Path, command_name: str
) -> None:
    numbers = np.zeros(8_000_000)
    pq.write_table(pa.table(dict.fromkeys("abcdefgy", numbers)), tmp_path / "a.parquet")
    more = ("--model-name=large", "--target=y", "--task=regression")
    if command_name == "score":
        KINDS["regression"].save(tmp_path / "model")
        columns = KINDS["regression"].frame.columns
        pq.write_table(pa.table(dict.fromkeys(columns, numbers)), tmp_path / "a.parquet")
        model = (tmp_path / "model").as_uri()
        more = (f"--model-uri={model}", f"--output={tmp_path}/out", "--part-rows=8000000")

    with memory_for(200_000_000):
        result = command(command_name, f"--mlflow-tracking-uri={server.uri}", f"--data={tmp_path}/a.parquet", *more)

    assert result.code == 2
    assert result.messages[-1].startswith("There is not enough memory (")
    if command_name == "train":
        (found,) = runs(server, "large")
        assert (found.info.status, found.data.tags["failure"]) == ("FAILED", result.messages[-1])


def test_lack_of_memory_of_xgboost_is_not_taken_for_a_parameter() -> None:
    features, target = np.zeros((1_000_000, 30), dtype=np.float32), np.zeros(1_000_000)
    with memory_for(30_000_000), pytest.raises(XGBoostError) as found:
        xgb.train({"nthread": 1}, xgb.DMatrix(features, label=target, nthread=1), 2)

    assert isinstance(refusal(found.value), ResourceError)
