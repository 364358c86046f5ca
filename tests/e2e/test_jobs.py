"""Tests of the chart's Jobs on the cluster: training, the gate, and a batch run that is killed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from tests.e2e.jobs import Jobs, conditions, namespace, trains
from tests.e2e.logs import result
from tools.cluster.access import Access, http
from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, wait_for
from tools.cluster.images import TRAINING

NAMESPACE = "jobs"
MODEL = "jobs-on-the-cluster"
ROWS, PART_ROWS = 20_000, 10  # enough parts, so that the pod cannot finish before it is killed
TRAINS = trains(MODEL)
GOOD = ["--set=training.settings.train.rounds=40", "--set=training.settings.train.early_stopping_rounds=0"]
WORSE = [
    "--set=training.settings.train.rounds=1",
    "--set=training.settings.train.max_depth=1",
    "--set=training.settings.train.early_stopping_rounds=0",
]


@pytest.fixture(scope="module")
def jobs(access: Access) -> Iterator[Jobs]:
    """Namespace of these tests. Their model does not stay, because a second run would find it."""
    with namespace(access, NAMESPACE) as made:
        yield made
    with access.forward("service/obs-mlflow", 5000, "monitoring") as mlflow:
        MlflowClient(mlflow).delete_registered_model(MODEL)


@pytest.fixture(scope="module")
def trained(jobs: Jobs) -> Any:
    """The Job of a release that has trained its first model, for which the service pods waited."""
    jobs.release("trained", *TRAINS, *GOOD)
    job = jobs.ended("trained", "train")
    assert conditions(job) >= {"Complete"}
    return job


def champion(access: Access) -> dict[str, Any]:
    """Return the version that the alias refers to in MLflow, or {} if the alias does not exist."""
    with access.forward("service/obs-mlflow", 5000, "monitoring") as mlflow:
        try:
            answer = http(f"{mlflow}/api/2.0/mlflow/registered-models/alias?name={MODEL}&alias=champion")
        except Failure:
            return {}
    return dict(answer["model_version"])


def versions(access: Access) -> list[str]:
    """Return all versions of the model in MLflow."""
    with access.forward("service/obs-mlflow", 5000, "monitoring") as mlflow:
        answer = http(f"{mlflow}/api/2.0/mlflow/model-versions/search?filter=name%3D%27{MODEL}%27")
    return sorted(each["version"] for each in answer["model_versions"])


def message(jobs: Jobs, job: Any) -> str:
    """Return the termination message of the container `promote`."""
    (pod,) = jobs.pods(job)
    (status,) = pod["status"]["containerStatuses"]
    return str(status["state"]["terminated"]["message"])


def test_version_is_reproduced_byte_for_byte_in_another_pod(jobs: Jobs, trained: Any) -> None:
    (pod,) = jobs.pods(trained)
    version = result(jobs.log(pod["metadata"]["name"], "train"))
    spec = trained["spec"]["template"]["spec"]
    train = spec.pop("initContainers")[0]
    train["command"] = ["/opt/venv/bin/python", "-m", "training", "reproduce", version["uri"]]
    train["env"] = [
        each for each in train["env"] if each["name"] != "TRAINING_CONFIG"
    ]  # the manifest contains all settings

    printed = jobs.printed(spec | {"containers": [train]})

    assert printed["outcome"] == "identical"
    assert printed["file_sha256"] == printed["recorded_file_sha256"] == version["file_sha256"]
    assert printed["differences"] == [], "the same image, code and data"


def test_first_run_is_promoted_and_a_refusal_completes_the_job(access: Access, jobs: Jobs, trained: Any) -> None:
    first = champion(access)
    with access.forward("service/trained-model-service", 80, NAMESPACE) as service:
        assert http(f"{service}/model")["version"] == first["version"]
    jobs.release("trained", *TRAINS, *GOOD)
    (same,) = jobs.of("trained", "train")
    assert same["metadata"]["uid"] == trained["metadata"]["uid"], "the same values start no new Job"

    jobs.release("trained", *TRAINS, *WORSE)

    refused = jobs.ended("trained", "train")
    assert "Complete" in conditions(refused)
    assert "refused: auc is" in message(jobs, refused)
    assert champion(access)["version"] == first["version"]


def test_label_and_rollback_replace_the_job_without_training(access: Access, jobs: Jobs, trained: Any) -> None:
    jobs.release("trained", *TRAINS, *GOOD)
    before = versions(access)

    jobs.release("trained", *TRAINS, *GOOD, "--set=pod.labels.team=risk")
    labelled = jobs.ended("trained", "train")
    said = [message(jobs, labelled)]  # before the rollback deletes its pods
    access.helm("rollback", "trained", "--namespace", NAMESPACE, "--wait", "--timeout=10m")
    back = jobs.ended("trained", "train")
    said.append(message(jobs, back))

    assert len({job["metadata"]["uid"] for job in (trained, labelled, back)}) == 3
    assert conditions(labelled) & conditions(back) >= {"Complete"}
    assert all("the gate has already decided (promoted at" in each for each in said), said
    assert versions(access) == before


def test_scheduled_run_passes_the_same_gate(access: Access, jobs: Jobs) -> None:
    jobs.release("nightly", *TRAINS, *WORSE, "--set=training.schedule=0 3 * * *", wait=False)

    access.kubectl("create", "job", "now-train-1", "--from=cronjob/nightly-model-service-train", "-n", NAMESPACE)

    name = ["job/now-train-1", "--namespace", NAMESPACE]
    either = '--for=jsonpath={.status.conditions[?(@.status=="True")].type}'
    access.kubectl("wait", either, "--timeout=900s", *name)
    log = jobs.log("job/now-train-1", "train")
    assert result(log)["uri"].startswith(f"models:/{MODEL}/")
    access.helm("uninstall", "nightly", "--namespace", NAMESPACE)


def data(columns: list[str]) -> str:
    """Return a data set as CSV."""
    drawn = np.random.default_rng(0).uniform(1, 99, (ROWS, len(columns))).round(1)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in drawn.tolist())])


# Reads the predictions as any consumer of the folder would.
LOOK = """
import json, os, sys
import pyarrow.parquet as pq
(folder,) = [each for each in os.listdir("/batch/scores") if each.startswith(sys.argv[1])]
folder = "/batch/scores/" + folder
rows = pq.read_table(folder)["row"].to_pylist()
print(json.dumps({"rows": len(rows), "all": sorted(rows) == list(range(len(rows))),
                  "success": json.load(open(folder + "/_SUCCESS"))["rows"]}))
"""


def look(jobs: Jobs, prefix: str) -> dict[str, Any]:
    """Return what a pod reads from the folder that a Job wrote."""
    container = {
        "name": "look",
        "image": TRAINING.reference,
        "command": ["/opt/venv/bin/python", "-c", LOOK, prefix],
        "volumeMounts": [{"name": "batch", "mountPath": "/batch"}],
    }
    volume = {"name": "batch", "persistentVolumeClaim": {"claimName": "batch"}}
    return jobs.printed({"securityContext": {"fsGroup": 10001}, "containers": [container], "volumes": [volume]})


def test_killed_batch_resumes_in_another_pod_without_loss(access: Access, jobs: Jobs, tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "charts/model-service/ci/batch-values.yaml").read_text())
    model = next(item for item in values["extraObjects"] if item["metadata"]["name"] == "example-model")
    columns = json.loads(model["data"]["input_example.json"])["columns"]
    jobs.claim("batch")
    jobs.apply("ConfigMap", "customers", data={"in.csv": data(columns)})
    values["extraObjects"] = [model]
    values["pod"] = {"securityContext": {"fsGroup": 10001}}
    values["batch"] |= {"existingClaim": "batch", "output": "/batch/scores", "data": "/data/in.csv", "keep": []}
    values["batch"] |= {
        "partRows": PART_ROWS,
        "extraVolumes": [{"name": "customers", "configMap": {"name": "customers"}}],
    }
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))

    jobs.release("batch", f"--values={file}", wait=False)

    def running() -> list[Any]:
        pods = access.get_all("pod", "app.kubernetes.io/name=model-service-score", NAMESPACE)
        return [pod for pod in pods if pod["status"]["phase"] == "Running"]

    wait_for("the batch's pod", lambda: bool(running()), timeout_seconds=300, remedy="See kubectl describe pod.")
    killed = running()[0]["metadata"]["name"]
    some = ["exec", killed, "-n", NAMESPACE, "--", "sh", "-c", "ls /batch/scores/*/part-00005.parquet"]

    def begun() -> bool:
        try:
            return bool(access.kubectl(*some))
        except Failure:
            return False

    wait_for("the first parts", begun, timeout_seconds=300, remedy="See the pod's log.")
    access.kubectl("delete", "pod", killed, "-n", NAMESPACE, "--grace-period=0", "--force")

    job = jobs.ended("batch", "score")

    assert "Complete" in conditions(job)
    logs = [jobs.log(pod["metadata"]["name"], "score") for pod in jobs.pods(job)]
    assert any("continuing after part-" in log for log in logs), logs
    assert look(jobs, job["metadata"]["name"]) == {"rows": ROWS, "all": True, "success": ROWS}
