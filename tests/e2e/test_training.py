"""Tests of distributed training: three pods of an Indexed Job train one reproducible model, as good as one worker."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.e2e.jobs import RERUN, Jobs, conditions, namespace, trains
from tests.e2e.logs import result
from tools.cluster.access import Access
from tools.cluster.console import Failure, wait_for
from training.data.dataset import load
from training.data.matrices import predict
from training.data.split import split
from training.fitting import evaluate, fit
from training.train_options import TrainOptions

NAMESPACE = "workers"
MODEL = "three-pods"
SETTINGS: dict[str, Any] = {
    "rounds": 3000,
    "learning_rate": 0.01,
    "max_depth": 3,
    "early_stopping_rounds": 0,
    "nthread": 1,
}
THREE = [
    *trains(MODEL),
    "--set=training.workers=3",
    "--set=training.checkpoints.existingClaim=checkpoints",
    "--set=pod.securityContext.fsGroup=10001",
    "--set=training.settings.train.data=/data/in.parquet",
    "--set=training.settings.train.target=left",
    *(f"--set=training.settings.train.{name}={value}" for name, value in SETTINGS.items()),
    "--set=training.extraVolumes[0].name=data",
    "--set=training.extraVolumes[0].configMap.name=data",
    "--set=training.extraVolumeMounts[0].name=data",
    "--set=training.extraVolumeMounts[0].mountPath=/data",
]


def write(path: Path) -> None:
    """Write a table of 12 row groups, 4 for each of three workers."""
    drawn = np.random.default_rng(0)
    table = pd.DataFrame(drawn.random((6000, 6), dtype=np.float32), columns=list("abcdef"))
    noise = drawn.random(len(table)) / 2
    table["left"] = np.where(table["a"] + table["b"] * table["c"] + noise > 1, "yes", "no")
    table.to_parquet(path, row_group_size=500)


@pytest.fixture(scope="module")
def jobs(access: Access) -> Iterator[Jobs]:
    """Namespace of this test."""
    with namespace(access, NAMESPACE) as made:
        yield made


def workers(jobs: Jobs, job: Any) -> list[dict[str, Any]]:
    """Return the last line that each successful worker printed, in the order of the workers."""
    pods = [pod for pod in jobs.pods(job) if pod["status"]["phase"] == "Succeeded"]
    pods.sort(key=lambda pod: int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]))
    return [result(jobs.log(pod["metadata"]["name"], "train")) for pod in pods]


def kill_the_second(access: Access) -> None:
    """Kill the pod of worker 1, as a lost node would, after the first checkpoint exists."""

    def pod(index: int) -> str:
        selector = f"app.kubernetes.io/instance=three,batch.kubernetes.io/job-completion-index={index}"
        (found,) = access.get_all("pod", selector, NAMESPACE)
        return str(found["metadata"]["name"])

    def kept() -> bool:
        try:
            listing = ["exec", pod(0), "--namespace", NAMESPACE, "--container=train", "--", "ls", "/checkpoints"]
            return "checkpoint-" in access.kubectl(*listing)
        except (Failure, ValueError):  # a pod does not exist yet, or its container has not started
            return False

    wait_for("the first checkpoint", kept, timeout_seconds=300, remedy="See the log of the first worker.")
    access.kubectl("delete", "pod", pod(1), "--namespace", NAMESPACE, "--grace-period=0", "--force")


@pytest.mark.long
def test_three_pods_train_one_model_despite_a_killed_pod(access: Access, jobs: Jobs, tmp_path: Path) -> None:
    write(tmp_path / "in.parquet")
    content = base64.b64encode((tmp_path / "in.parquet").read_bytes()).decode()
    jobs.apply("ConfigMap", "data", binaryData={"in.parquet": content})
    jobs.claim("checkpoints")

    jobs.release("three", *THREE, wait=False)
    first = jobs.ended("three", "train")
    assert "Complete" in conditions(first)
    undisturbed = workers(jobs, first)
    jobs.release("three", *THREE, f"--set-string=training.rerun={RERUN} once more", wait=False)
    kill_the_second(access)
    second = jobs.ended("three", "train")

    assert [each.get("worker") for each in undisturbed] == [None, 1, 2]
    assert len({each["file_sha256"] for each in undisturbed}) == 1
    assert "Complete" in conditions(second), second["status"]
    again = workers(jobs, second)
    assert {each["file_sha256"] for each in again} == {undisturbed[0]["file_sha256"]}
    failed = [pod["metadata"]["name"] for pod in jobs.pods(second) if pod["status"]["phase"] == "Failed"]
    logs = [jobs.log(name, "train") for name in failed]
    assert any("lost another one, whose own log contains the cause" in log for log in logs), logs
    ended = [pod["metadata"]["name"] for pod in jobs.pods(second) if pod["status"]["phase"] == "Succeeded"]
    assert any("from the checkpoint" in jobs.log(name, "train") for name in ended)
    options = TrainOptions(
        mlflow_tracking_uri="http://localhost", model_name=MODEL, data=str(tmp_path / "in.parquet"), target="left",
        **SETTINGS,
    )  # fmt: skip
    alone = measured_alone(options)
    print(f"AUC of three pods {undisturbed[0]['metrics']['holdout_auc']:.4f}, of one worker {alone:.4f}")
    assert abs(undisturbed[0]["metrics"]["holdout_auc"] - alone) < 0.02


def measured_alone(options: TrainOptions) -> float:
    """Return the holdout AUC of a model that one worker trains on the same data with the same settings."""
    data = load(options.data_spec)
    parts = split(data, options.split_spec)
    fitted = fit.fit(data, parts.rest, fit.parameters(data, options.booster_params), options.rounds, 2)
    output = predict(fitted.booster, data, parts.holdout, 2)
    return evaluate.measure(data, parts.holdout, output)["holdout_auc"]
