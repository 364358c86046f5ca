"""An inference log on the cluster: a pod that ends ships its last requests and labels to a claim."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.jobs import Jobs, namespace
from tools.cluster.access import Access, http
from tools.cluster.images import TRAINING
from tools.cluster.main_job import ALIAS, MODEL, TRACKING_URI

NAMESPACE, RELEASE = "logged", "logged"
ROWS = 7
# Prints what the log has, by kind: rows, and how many labels join a prediction.
LOOK = """
import json, pyarrow.parquet as parquet
found = {kind: parquet.read_table(f"/log/of/model/{kind}") for kind in ("predictions", "labels")}
joined = set(found["predictions"]["prediction_id"].to_pylist()) & set(found["labels"]["prediction_id"].to_pylist())
print(json.dumps({kind: table.num_rows for kind, table in found.items()} | {"joined": len(joined)}))
"""


@pytest.fixture(scope="module")
def jobs(access: Access) -> Iterator[Jobs]:
    with namespace(access, NAMESPACE) as made:
        made.claim("log")
        made.apply("Secret", "keys", stringData={"key": "a-key-of-a-test-0123456789"})
        yield made


def test_pod_ships_its_log_when_it_ends(access: Access, jobs: Jobs) -> None:
    values = {
        "model.uri": f"models:/{MODEL}@{ALIAS}",
        "mlflow.trackingUri": TRACKING_URI,
        "replicaCount": "1",
        "api.feedback.existingSecret": "keys",
        "pod.securityContext.fsGroup": "10001",
        "logging.payload.sampleRatio": "1",
        "logging.payload.sink": "parquet",
        "logging.payload.parquet.uri": "pvc://log/of/model",
        "logging.payload.parquet.rotateSeconds": "86400",  # so that only the end of the pod completes the segment
    }
    jobs.release(RELEASE, *(f"--set={key}={value}" for key, value in values.items()))
    with access.forward(f"deployment/{RELEASE}-model-service", 8000, NAMESPACE) as pod:
        example = http(f"{pod}/model")["input_example"]
        rows = {"columns": example["columns"], "data": [example["data"][0]] * ROWS}
        answer = http(f"{pod}/predict", rows)
        labels = [{"token": token, "label": answer["predictions"][0]["label"]} for token in answer["tokens"][:3]]
        assert http(f"{pod}/feedback", {"labels": labels})["accepted"] == len(labels)

    access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
    access.kubectl(
        "wait", "pod", "--selector=app.kubernetes.io/name=model-service", "--for=delete", "--timeout=300s",
        "--namespace", NAMESPACE,
    )  # fmt: skip

    assert jobs.printed(_look()) == {"predictions": ROWS, "labels": len(labels), "joined": len(labels)}


def _look() -> dict[str, Any]:
    """Return the spec of a pod that reads the log."""
    mount = {"name": "log", "mountPath": "/log"}
    image = {"image": TRAINING.reference, "command": ["/opt/venv/bin/python", "-c", LOOK]}
    return {
        "securityContext": {"fsGroup": 10001},
        "containers": [{"name": "look", **image, "volumeMounts": [mount]}],
        "volumes": [{"name": "log", "persistentVolumeClaim": {"claimName": "log"}}],
    }
