"""Tests of MLflow with PostgreSQL and an S3 server, as values-production.yaml configures it."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient

from tools.cluster.access import Access
from tools.cluster.console import wait_for
from tools.cluster.production import (
    FULLNAME,
    PODS,
    install_mlflow,
    logging_runs,
    missing,
    stores,
    wait_until_ready,
    waiting_reasons,
)
from tools.cluster.stores import BUCKET, DATABASE_URI, KEYS, PASSWORD, make_bucket, psql, put_secret, scale


@pytest.fixture(scope="module")
def namespace(access: Access) -> Iterator[str]:
    """Namespace with both stores and an empty database."""
    with stores(access, "production") as name:
        yield name


@pytest.fixture(scope="module")
def pods(access: Access, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The two MLflow pods, which started together on the empty database."""
    make_bucket(access, namespace)
    install_mlflow(access, namespace, tmp_path_factory.mktemp("umbrella"))
    return wait_until_ready(access, namespace)


def test_two_pods_start_together_on_an_empty_database(access: Access, namespace: str, pods: list[str]) -> None:
    statuses = [
        status
        for pod in access.get_all("pod", PODS, namespace)
        for status in pod["status"]["initContainerStatuses"] + pod["status"]["containerStatuses"]
    ]

    assert len(pods) == 2
    assert [status["restartCount"] for status in statuses] == [0] * len(statuses)
    assert psql(access, namespace, "select count(*) from alembic_version").strip() == "1"


def test_artifacts_of_one_pod_are_readable_from_the_other(
    access: Access, namespace: str, pods: list[str], tmp_path: Path
) -> None:
    with logging_runs(access, namespace, clients=4, runs=8) as lines:
        pass
    *runs, sums = lines
    ids = ",".join(f"'{run['run_id']}'" for run in runs)

    assert (sums["runs"], len(runs)) == (8, 8)
    for pod in pods:
        with access.forward(f"pod/{pod}", 5000, namespace) as url:
            assert missing(MlflowClient(url), runs, tmp_path) == []
    assert psql(access, namespace, f"select count(*) from runs where run_uuid in ({ids})").strip() == "8"  # noqa: S608
    with access.forward("service/bucket", 7070, namespace) as url:
        login = {key.lower(): value for key, value in KEYS.items()}
        found = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **login).list_objects_v2(Bucket=BUCKET)
    assert {run["run_id"] for run in runs} <= {part for item in found["Contents"] for part in item["Key"].split("/")}


def test_logs_and_objects_contain_no_password(access: Access, namespace: str, pods: list[str]) -> None:
    text = access.kubectl("get", "deployments,configmaps", "--namespace", namespace, "--output=yaml")
    for pod in pods:
        text += access.kubectl("logs", pod, "--namespace", namespace, "--all-containers")

    assert "prod-mlflow" in text
    assert PASSWORD not in text
    assert DATABASE_URI.split(":")[2].partition("@")[0] not in text


def test_pods_report_what_is_missing_and_recover(access: Access, tmp_path: Path) -> None:
    def reports(message: str) -> None:
        wait_for(message, lambda: message in waiting_reasons(access, name), timeout_seconds=300, remedy="")

    with stores(access, "production-waits") as name:
        scale(access, "database", name, 0)
        put_secret(access, name, "mlflow-database", {"uri": DATABASE_URI.replace("mlflow:", "mlflow:wrong")})
        install_mlflow(access, name, tmp_path, "--set=mlflow.prepare.timeoutSeconds=10", "--set=mlflow.replicaCount=1")
        reports("Check that it runs, that this pod may reach it, and mlflow.backendStoreUriFrom.")

        scale(access, "database", name, 1)
        reports("Correct user and password in mlflow.backendStoreUriFrom.")

        put_secret(access, name, "mlflow-database", {"uri": DATABASE_URI})
        reports(f"The bucket {BUCKET} (mlflow.artifactsDestination) at http://bucket:7070 does not exist: create it")

        make_bucket(access, name)
        wait_until_ready(access, name)
        with access.forward(f"service/{FULLNAME}", 5000, name) as url:
            assert MlflowClient(url).create_experiment("afterwards")
