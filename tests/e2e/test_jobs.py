"""The chart's own jobs on the cluster: a release that trains its model, the gate, and a batch that is killed."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from tests.cluster.access import Access, http
from tests.cluster.cache import ROOT
from tests.cluster.console import Failure, wait_for
from tests.cluster.images import APP, TRAINING
from tests.cluster.main_job import TRACKING_URI, image_values

CHART = str(ROOT / "charts" / "model-service")
NAMESPACE = "jobs"
MODEL = "jobs-on-the-cluster"
SMALL = ["--set=replicaCount=1", "--set=podDisruptionBudget.enabled=false", "--set=resources.requests.cpu=50m"]
IMAGES = [*image_values(APP), *image_values(TRAINING, "training.image")]
ROWS, PART_ROWS = 20_000, 100


@pytest.fixture(scope="module", autouse=True)
def namespace(access: Access, cluster: ModuleType) -> Iterator[str]:
    """A namespace of our own, and the images on the node."""
    for image in (APP, TRAINING):
        cluster.load(image)
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))
    try:
        yield NAMESPACE
    finally:
        access.kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=180s")


def release(access: Access, name: str, *values: str, wait: bool = True) -> None:
    """Install or upgrade a release of the chart."""
    more = ["--wait", "--timeout=8m"] if wait else []
    command = ["upgrade", "--install", name, CHART, "--namespace", NAMESPACE, *IMAGES, *SMALL, *values, *more]
    access.helm(*command)


def jobs(access: Access, name: str, kind: str) -> list[Any]:
    """Return the Jobs of a release, the oldest first."""
    selector = f"app.kubernetes.io/instance={name}"
    found = [job for job in access.get_all("job", selector, NAMESPACE) if f"-{kind}-" in job["metadata"]["name"]]
    return sorted(found, key=lambda job: str(job["metadata"]["creationTimestamp"]))


def ended(access: Access, name: str, kind: str) -> Any:
    """Wait until the release's only Job of a kind has ended; return it."""

    def over() -> bool:
        found = jobs(access, name, kind)
        return len(found) == 1 and bool(conditions(found[0]) & {"Complete", "Failed"})

    wait_for(f"the end of the {kind} Job of {name}", over, timeout_seconds=420, remedy="See its pods' logs.")
    return jobs(access, name, kind)[0]


def conditions(job: Any) -> set[str]:
    """Return the conditions of a Job that are true."""
    return {each["type"] for each in job["status"].get("conditions", []) if each["status"] == "True"}


def champion(access: Access) -> dict[str, Any]:
    """Return the version that the alias names in MLflow, {} when there is none."""
    with access.forward("service/obs-mlflow", 5000, "monitoring") as mlflow:
        try:
            answer = http(f"{mlflow}/api/2.0/mlflow/registered-models/alias?name={MODEL}&alias=champion")
        except Failure:
            return {}
    return dict(answer["model_version"])


TRAINS = [
    f"--set-string=model.uri=models:/{MODEL}@champion",
    f"--set-string=mlflow.trackingUri={TRACKING_URI}",
    "--set=training.enabled=true",
    "--set=training.resources.requests.cpu=100m",
    "--set=training.verify.maxP99Milliseconds=2000",  # others use the machine
]
GOOD = ["--set=training.settings.train.rounds=40", "--set=training.settings.train.early_stopping_rounds=0"]
WORSE = [
    "--set=training.settings.train.rounds=1",
    "--set=training.settings.train.max_depth=1",
    "--set=training.settings.train.early_stopping_rounds=0",
]


def test_release_trains_its_first_model_and_a_worse_run_changes_nothing(access: Access) -> None:
    # Nobody is champion yet: the service's pods wait until the Job has promoted its model.
    release(access, "trained", *TRAINS, *GOOD)

    assert conditions(ended(access, "trained", "train")) >= {"Complete"}
    first = champion(access)
    with access.forward("service/trained-model-service", 80, NAMESPACE) as service:
        assert http(f"{service}/model")["version"] == first["version"]
    release(access, "trained", *TRAINS, *GOOD)
    assert len(jobs(access, "trained", "train")) == 1, "the same values train nothing again"

    release(access, "trained", *TRAINS, *WORSE)

    refused = ended(access, "trained", "train")
    assert "Failed" in conditions(refused)
    reason = next(each for each in refused["status"]["conditions"] if each["type"] == "Failed")
    assert reason["reason"] == "PodFailurePolicy"
    assert "Container promote" in reason["message"]
    assert "exit code 3" in reason["message"]
    assert champion(access)["version"] == first["version"]
    assert refused["status"]["failed"] == 1, "what the gate refused is not tried again"


def test_schedule_fires_and_goes_through_the_same_gate(access: Access) -> None:
    release(access, "nightly", *TRAINS, *WORSE, "--set=training.schedule=0 3 * * *", wait=False)

    access.kubectl("create", "job", "now-train-1", "--from=cronjob/nightly-model-service-train", "-n", NAMESPACE)

    name = ["job/now-train-1", "--namespace", NAMESPACE]
    either = '--for=jsonpath={.status.conditions[?(@.status=="True")].type}'
    access.kubectl("wait", either, "--timeout=420s", *name)
    log = access.kubectl("logs", *name, "--container=train")
    assert json.loads(log.strip().splitlines()[-1])["uri"].startswith(f"models:/{MODEL}/")
    access.helm("uninstall", "nightly", "--namespace", NAMESPACE)


def claim() -> dict[str, Any]:
    """Return a claim for data and predictions."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "batch", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def data(columns: list[str]) -> dict[str, Any]:
    """Return a ConfigMap with a data set."""
    drawn = np.random.default_rng(0).uniform(1, 99, (ROWS, len(columns))).round(1)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in drawn.tolist())]
    metadata = {"name": "customers", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"in.csv": "\n".join(lines)}}


# Looks at the predictions as any reader of the folder would.
LOOK = """
import json, os, sys
import pyarrow.parquet as pq
(folder,) = [each for each in os.listdir("/batch/scores") if each.startswith(sys.argv[1])]
folder = "/batch/scores/" + folder
rows = pq.read_table(folder)["row"].to_pylist()
print(json.dumps({"rows": len(rows), "all": sorted(rows) == list(range(len(rows))),
                  "success": json.load(open(folder + "/_SUCCESS"))["rows"]}))
"""


def look(access: Access, prefix: str) -> dict[str, Any]:
    """Return what a pod sees in the folder that a Job wrote."""
    secure = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "look",
        "image": TRAINING.reference,
        "command": ["/opt/venv/bin/python", "-c", LOOK, prefix],
        "securityContext": secure,
        "volumeMounts": [{"name": "batch", "mountPath": "/batch"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001},
        "containers": [container],
        "volumes": [{"name": "batch", "persistentVolumeClaim": {"claimName": "batch"}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "look", "namespace": NAMESPACE}, "spec": spec}
    access.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    try:
        access.kubectl(
            "wait", "pod/look", "-n", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s"
        )
        return dict(json.loads(access.kubectl("logs", "look", "-n", NAMESPACE)))
    finally:
        access.kubectl("delete", "pod", "look", "-n", NAMESPACE, "--wait=true")


def test_killed_batch_goes_on_in_another_pod_and_loses_and_doubles_nothing(access: Access, tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "charts/model-service/ci/batch-values.yaml").read_text())
    model = next(item for item in values["extraObjects"] if item["metadata"]["name"] == "example-model")
    columns = json.loads(model["data"]["input_example.json"])["columns"]
    for item in (claim(), data(columns)):
        access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(item))
    values["extraObjects"] = [model]
    values["batch"] |= {"existingClaim": "batch", "output": "/batch/scores", "data": "/data/in.csv", "keep": []}
    values["batch"] |= {
        "partRows": PART_ROWS,
        "extraVolumes": [{"name": "customers", "configMap": {"name": "customers"}}],
    }
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))

    release(access, "batch", f"--values={file}", wait=False)

    def running() -> list[Any]:
        pods = access.get_all("pod", "app.kubernetes.io/name=model-service-score", NAMESPACE)
        return [pod for pod in pods if pod["status"]["phase"] == "Running"]

    wait_for("the batch's pod", lambda: bool(running()), timeout_seconds=180, remedy="See kubectl describe pod.")
    killed = running()[0]["metadata"]["name"]
    some = ["exec", killed, "-n", NAMESPACE, "--", "sh", "-c", "ls /batch/scores/*/part-00005.parquet"]

    def begun() -> bool:
        try:
            return bool(access.kubectl(*some))
        except Failure:
            return False

    wait_for("the first parts", begun, timeout_seconds=120, remedy="See the pod's log.")
    access.kubectl("delete", "pod", killed, "-n", NAMESPACE, "--grace-period=0", "--force")

    job = ended(access, "batch", "score")

    assert "Complete" in conditions(job)
    pods = access.get_all("pod", "app.kubernetes.io/name=model-service-score", NAMESPACE)
    logs = [access.kubectl("logs", pod["metadata"]["name"], "-n", NAMESPACE) for pod in pods]
    assert any("going on behind part-" in log for log in logs), logs
    assert look(access, job["metadata"]["name"]) == {"rows": ROWS, "all": True, "success": ROWS}
