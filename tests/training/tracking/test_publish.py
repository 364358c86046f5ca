"""The whole program with a real MLflow server: the run and the version after success and failure."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from app.model.contract import Contract
from tests.training.conftest import Result, Server
from training.data.dataset import load
from training.errors import TrackingError
from training.tracking.publish import verify

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
# Few rounds, because these tests check the publication and not the quality of the model.
QUICK = ("--rounds=10", "--early-stopping-rounds=0")


@pytest.fixture(scope="module")
def published(server: Server) -> dict[str, Any]:
    """Run the program in its own process with command line and environment, as a Job does."""
    done = subprocess.run(
        [sys.executable, "-m", "training", "train", "--model-name=first", *QUICK],
        env=os.environ | {"MLFLOW_TRACKING_URI": server.uri, "GIT_COMMIT": COMMIT},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_status(server: Server, name: str) -> str:
    """Return the status of the newest run in the experiment of the model, or "" if there is none."""
    experiment = server.client.get_experiment_by_name(name)
    runs = server.client.search_runs([experiment.experiment_id], max_results=1) if experiment else []
    return str(runs[0].info.status) if runs else ""


def test_last_line_names_the_registered_version(server: Server, published: dict[str, Any]) -> None:
    version = server.client.get_model_version("first", "1")

    assert set(published) == {"name", "version", "uri", "run_id", "sha256", "file_sha256", "metrics"}
    assert (published["name"], published["version"], published["uri"]) == ("first", "1", "models:/first/1")
    assert version.run_id == published["run_id"]
    assert version.status == "READY"


def test_train_moves_no_alias(server: Server, published: dict[str, Any]) -> None:
    assert published["version"] == "1"
    assert server.client.get_registered_model("first").aliases == {}


def test_folder_contains_model_and_contract_without_pickle(server: Server, published: dict[str, Any]) -> None:
    folder = server.model_folder("first", published["version"])

    names = {path.name for path in folder.iterdir()}
    assert {"MLmodel", "model.ubj", "contract.json", "input_example.json", "requirements.txt"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib"))]
    contract = Contract.model_validate_json((folder / "contract.json").read_text())
    assert (contract.task, contract.target, contract.classes) == ("binary", "diagnosis", ("malignant", "benign"))
    assert [column.name for column in contract.columns] == list(load().frame.columns)
    assert contract.profile
    assert len(contract.example_output) == 1
    requirements = (folder / "requirements.txt").read_text()
    assert "xgboost-cpu==" in requirements
    assert "\nxgboost==" not in requirements


def test_digest_tag_covers_every_deciding_file(server: Server, published: dict[str, Any]) -> None:
    names = "MLmodel contract.json input_example.json model.ubj"
    folder = server.model_folder("first", published["version"])
    lines = subprocess.run(["sha256sum", *names.split()], cwd=folder, capture_output=True, check=True).stdout

    digest = hashlib.sha256(lines).hexdigest()
    tags = server.client.get_model_version("first", published["version"]).tags
    facts = {"sha256": digest, "data_digest": load().sha256, "git_commit": COMMIT, "task": "binary"}
    assert facts.items() <= tags.items()
    assert tags["file_digests"] == lines.decode()
    assert {"target", "data_name", "holdout_digest"} <= tags.keys()
    assert len(server.client.search_model_versions(f"name = 'first' and tags.data_digest = '{load().sha256}'")) == 1
    assert published["sha256"] == digest
    assert published["file_sha256"] == hashlib.sha256((folder / "model.ubj").read_bytes()).hexdigest()


def test_signature_and_example_name_every_column(server: Server, published: dict[str, Any]) -> None:
    folder = server.model_folder("first", published["version"])
    columns = list(load().frame.columns)

    signature = yaml.safe_load((folder / "MLmodel").read_text())["signature"]
    example = json.loads((folder / "input_example.json").read_text())

    assert [column["name"] for column in json.loads(signature["inputs"])] == columns
    assert example["columns"] == columns
    assert len(example["data"]) == 1


def test_run_records_params_metrics_and_provenance(server: Server, published: dict[str, Any]) -> None:
    run = server.client.get_run(published["run_id"])

    assert run.info.status == "FINISHED"
    assert run.data.params["rounds"] == "10"
    assert run.data.params["split_seed"] == "0"
    assert published["metrics"].items() <= run.data.metrics.items()
    assert len(server.client.get_metric_history(published["run_id"], "train_logloss")) == 10
    assert run.data.tags["mlflow.source.git.commit"] == COMMIT
    assert run.data.tags["data.raw_sha256"] == load().raw_sha256
    assert {
        "data.sha256",
        "data.holdout_sha256",
        "env.python",
        "env.xgboost-cpu",
        "env.cpu",
        "env.nthread",
        "env.lock_sha256",
        "env.code_sha256",
        "env.packages_sha256",
        "git.dirty",
    } <= set(run.data.tags)
    pictures = server.client.list_artifacts(published["run_id"], "evaluation")
    assert {each.path.removeprefix("evaluation/") for each in pictures} == {
        f"{name}.png" for name in ("calibration", "confusion", "importance", "roc", "rounds")
    }
    assert run.inputs
    assert run.inputs.dataset_inputs[0].dataset.digest == load().sha256[:36]


def test_run_contains_the_lock_file_and_the_packages(server: Server, published: dict[str, Any]) -> None:
    mlflow.set_tracking_uri(server.uri)
    folder = Path(mlflow.artifacts.download_artifacts(run_id=published["run_id"], artifact_path="environment"))
    tags = server.client.get_run(published["run_id"]).data.tags

    assert {file.name for file in folder.iterdir()} == {"packages.txt", "uv.lock"}
    for name, tag in (("uv.lock", "env.lock_sha256"), ("packages.txt", "env.packages_sha256")):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == tags[tag]


def test_run_contains_the_page_about_its_data(server: Server, published: dict[str, Any]) -> None:
    mlflow.set_tracking_uri(server.uri)
    page = mlflow.artifacts.load_text(f"runs:/{published['run_id']}/data_report.html")

    assert f"<td>{published['run_id']}</td>" in page
    assert all(f">{column}</td>" in page for column in load().frame.columns)


def test_mlflow_predicts_like_the_booster(server: Server, published: dict[str, Any]) -> None:
    folder = server.model_folder("first", published["version"])
    example = json.loads((folder / "input_example.json").read_text())

    model = mlflow.pyfunc.load_model(str(folder))
    answer = model.predict(pd.DataFrame(example["data"], columns=example["columns"]))

    assert np.all((answer > 0) & (answer < 1))


def test_file_depends_only_on_the_settings(server: Server, run: Callable[..., Result]) -> None:
    settings = (f"--mlflow-tracking-uri={server.uri}", "--model-name=seeds", *QUICK)

    first, again, other = (run(*settings, f"--seed={seed}").published for seed in (0, 0, 1))

    assert first["file_sha256"] == again["file_sha256"] != other["file_sha256"]
    assert [first["version"], again["version"], other["version"]] == ["1", "2", "3"]
    assert server.client.get_registered_model("seeds").aliases == {}, "which is for the gate to move"


def test_parameter_that_mlflow_cuts_is_named_and_kept_in_the_manifest(
    server: Server, run: Callable[..., Result], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["x" * 7000]

    done = run(f"--mlflow-tracking-uri={server.uri}", "--model-name=long", f"--null-words={json.dumps(words)}", *QUICK)

    logged = server.client.get_run(done.published["run_id"])
    manifest = json.loads(mlflow.artifacts.load_text(f"{logged.info.artifact_uri}/manifest.json"))
    assert len(logged.data.params["null_words"]) == 6000
    assert manifest["data"]["spec"]["null_words"] == words
    assert "parameter null_words: MLflow shows the first 6000 of 7004 characters; manifest.json contains" in caplog.text


@pytest.mark.usefixtures("broken_artifact_store")
def test_failure_marks_the_run_failed_without_a_version(
    server: Server, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    result = run(f"--mlflow-tracking-uri={server.uri}", "--model-name=failing", "--retry-seconds=0", *QUICK)

    assert result.code == 1
    assert result.messages[-1].startswith(f"MLflow at {server.uri} ")
    assert run_status(server, "failing") == "FAILED"
    assert not server.client.search_registered_models("name='failing'")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_stopped_run_is_marked_killed(server: Server, sent: signal.Signals) -> None:
    name = f"stopped-by-{sent.name}"
    command = [sys.executable, "-m", "training", "train", f"--model-name={name}", "--rounds=10000000"]
    with subprocess.Popen(
        [*command, "--early-stopping-rounds=0", f"--mlflow-tracking-uri={server.uri}"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # Tests that a shell runs in the background ignore Ctrl-C, and so do their child processes.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 300
        while run_status(server, name) != "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(sent)
        code = process.wait(timeout=300)

    assert code == 128 + sent
    assert run_status(server, name) == "KILLED"
    assert not server.client.search_registered_models(f"name='{name}'")


@pytest.mark.parametrize("name", ["model.ubj", "contract.json"])
def test_tampered_file_is_refused(server: Server, published: dict[str, Any], tmp_path: Path, name: str) -> None:
    mlflow.set_tracking_uri(server.uri)
    folder = server.model_folder("first", published["version"])
    for trained in ("model.ubj", "contract.json"):
        shutil.copy(folder / trained, tmp_path)
    good = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(good + b" ")
        with pytest.raises(TrackingError, match=f"contains a {re.escape(name)} with sha256"):
            verify(published["uri"], tmp_path)
    finally:
        (folder / name).write_bytes(good)


def test_unreachable_server_is_one_sentence_and_exit_code_1(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    begin = time.monotonic()

    result = run("--mlflow-tracking-uri=http://127.0.0.1:9")

    assert result.code == 1
    assert result.messages == [
        "MLflow at http://127.0.0.1:9 is unreachable ([Errno 111] Connection refused): check that the "
        "server runs, that the network allows the connection, and that MLFLOW_TRACKING_URI is its address."
    ]
    assert "Traceback" not in result.stdout
    assert time.monotonic() - begin < 30
