"""Backup and restore of MLflow's production profile: everything is destroyed, and each version serves as before."""

import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
from mlflow import MlflowClient

from tests.e2e.champion import register_champion
from tools.charts import MODEL_SERVICE
from tools.cluster.access import Access, http
from tools.cluster.images import APP
from tools.cluster.main_job import ALIAS, MODEL, image_values, install
from tools.cluster.production import FULLNAME, install_mlflow, logging_runs, missing, stores, wait_until_ready
from tools.cluster.programs import find
from tools.cluster.stores import BUCKET, KEYS, PASSWORD, make_bucket

pytestmark = pytest.mark.long

LOGIN = ["env", f"PGPASSWORD={PASSWORD}"]
DATABASE = ["--host=127.0.0.1", "--username=mlflow", "--dbname=mlflow"]


def _in_database(access: Access, namespace: str, command: list[str], stdin: bytes = b"") -> bytes:
    """Run a command in the pod of the database, and return what it printed."""
    kubectl = [str(find("kubectl")), "--kubeconfig", str(access.kubeconfig), f"--namespace={namespace}"]
    done = subprocess.run(
        [*kubectl, "exec", "--stdin", "deployment/database", "--", *LOGIN, *command],
        input=stdin, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _bucket(url: str) -> Any:
    key, secret = KEYS.values()
    place = {"endpoint_url": url, "region_name": "us-east-1"}
    return boto3.resource("s3", aws_access_key_id=key, aws_secret_access_key=secret, **place).Bucket(BUCKET)


def _served(access: Access, namespace: str) -> dict[str, Any]:
    """Install a release that serves the alias, and return what decides its answers, and an answer."""
    values = {"model.uri": f"models:/{MODEL}@{ALIAS}", "mlflow.trackingUri": f"http://{FULLNAME}:5000"}
    values |= {"replicaCount": "1", "resources.requests.cpu": "50m", "podDisruptionBudget.enabled": "false"}
    install(
        access, "served", MODEL_SERVICE, namespace, *image_values(APP),
        *(f"--set={key}={value}" for key, value in values.items()),
    )  # fmt: skip
    with access.forward("service/served-model-service", 80, namespace) as url:
        model = http(f"{url}/model")
        answer = http(f"{url}/predict", model["input_example"])
    return {key: model[key] for key in ("version", "run_id", "sha256")} | {"predictions": answer["predictions"]}


def test_destroyed_mlflow_is_restored_and_serves_the_same(access: Access, mlflow_url: str, tmp_path: Path) -> None:
    objects = {}
    with stores(access, "backup") as namespace:
        make_bucket(access, namespace)
        install_mlflow(access, namespace, tmp_path)
        wait_until_ready(access, namespace)
        with access.forward(f"service/{FULLNAME}", 5000, namespace) as url:
            register_champion(mlflow_url, url, tmp_path)
        with logging_runs(access, namespace, clients=4, runs=20) as lines:
            pass
        before = _served(access, namespace)
        dump = _in_database(access, namespace, ["pg_dump", "--format=custom", *DATABASE])
        with access.forward("service/bucket", 7070, namespace) as url:
            for each in _bucket(url).objects.all():
                objects[each.key] = each.get()["Body"].read()
    *runs, sums = lines

    with stores(access, "restored") as namespace:
        make_bucket(access, namespace)
        restore = ["pg_restore", "--no-owner", "--exit-on-error", "--single-transaction", *DATABASE]
        _in_database(access, namespace, restore, dump)
        with access.forward("service/bucket", 7070, namespace) as url:
            for key, content in objects.items():
                _bucket(url).put_object(Key=key, Body=content)
        install_mlflow(access, namespace, tmp_path)
        wait_until_ready(access, namespace)
        with access.forward(f"service/{FULLNAME}", 5000, namespace) as url:
            assert missing(MlflowClient(url), runs, tmp_path) == []

        assert _served(access, namespace) == before
    assert sums["runs"] == len(runs) == 20
