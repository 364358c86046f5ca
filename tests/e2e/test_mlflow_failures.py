"""Tests of clear messages when the MLflow server lacks a dependency, of its recovery, and of data that is kept."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.programs import printed_by
from tools.charts import MLFLOW as CHART
from tools.cluster.access import Access
from tools.cluster.console import run, wait_for
from tools.cluster.images import MLFLOW
from tools.cluster.main_job import image_values, install
from tools.cluster.programs import clients
from tools.cluster.stores import BUCKET, DATABASE_URI, PASSWORD, install_stores, make_bucket, scale

NAMESPACE = "mlflow-failures"
SMALL = ["--set=resources.requests.cpu=50m", "--set=storage.size=1Gi", "--set=prepare.timeoutSeconds=15"]
DATABASE = '--set-json=mlflow.backendStoreUriFrom={"secretKeyRef": {"name": "%s", "key": "uri"}}'
LOGIN = {"username": "admin", "password": "long-enough-%-of-it", "flask-secret-key": "any"}
# Logs or reads a run with an artifact through the name of the Service, as any other pod does.
CLIENT = """
import hashlib, os, sys, tempfile, mlflow
client, run_id = mlflow.MlflowClient(), sys.argv[1] if len(sys.argv) > 1 else ""
if not run_id:
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "auc", 0.75)
    open("/tmp/a.bin", "wb").write(os.urandom(3_000_000))
    client.log_artifact(run_id, "/tmp/a.bin")
kept = open(client.download_artifacts(run_id, "a.bin", tempfile.mkdtemp()), "rb").read()
print("RUN", run_id, client.get_run(run_id).data.metrics["auc"], hashlib.sha256(kept).hexdigest())
"""


@pytest.fixture(scope="module")
def stores(access: Access) -> Iterator[Access]:
    """Namespace with a database and an S3 server without a bucket."""
    install_stores(access, NAMESPACE)
    try:
        yield access
    finally:
        access.kubectl("delete", "namespace", NAMESPACE)


def secret(access: Access, name: str, data: dict[str, str]) -> None:
    """Create or change a Secret."""
    item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
    access.kubectl("apply", "--server-side", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(item))


def pod(access: Access, release: str) -> dict[str, Any]:
    """Return the pod of the release, or {} while it does not exist."""
    found = access.get_all("pod", f"app.kubernetes.io/instance={release}", NAMESPACE)
    return dict(found[0]) if found else {}


def reported(access: Access, release: str) -> str:
    """Return the messages that `kubectl describe pod` shows for a pod that does not start."""
    found = pod(access, release).get("status", {})
    messages = [condition.get("message", "") for condition in found.get("conditions", [])]
    for status in found.get("initContainerStatuses", []):
        messages.append(status["state"].get("waiting", {}).get("message", ""))
        messages += [status[key].get("terminated", {}).get("message", "") for key in ("state", "lastState")]
    return "\n".join(filter(None, messages))


def ready(access: Access, release: str) -> bool:
    """Return whether the pod is ready."""
    return any(status["ready"] for status in pod(access, release).get("status", {}).get("containerStatuses", []))


def storage_class(access: Access) -> None:
    """Create the StorageClass of the claim as a copy of the default class."""
    (own,) = [
        item for item in json.loads(access.kubectl("get", "storageclass", "-o", "json"))["items"]
        if item["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    ]  # fmt: skip
    kept = {key: value for key, value in own.items() if key != "metadata"}
    access.kubectl("apply", "-f", "-", stdin=json.dumps({**kept, "metadata": {"name": "later"}}))


# Name of the case: values, action before the install, expected message, action that fixes the cause.
CASES: dict[str, tuple[list[str], Callable[[Access], Any], str, Callable[[Access], Any]]] = {
    "no-secret": (
        ["--set=auth.enabled=true,auth.existingSecret=login-a"],
        lambda _: None,
        'secret "login-a" not found',
        lambda access: secret(access, "login-a", LOGIN),
    ),
    "short-password": (
        ["--set=auth.enabled=true,auth.existingSecret=login-b"],
        lambda access: secret(access, "login-b", {**LOGIN, "password": "short"}),
        "The administrator's password in auth.existingSecret has 5 characters: use at least 12 characters",
        lambda access: secret(access, "login-b", LOGIN),
    ),
    "wrong-password": (
        [DATABASE % "wrong"],
        lambda access: secret(access, "wrong", {"uri": DATABASE_URI.replace("mlflow:", "mlflow:x", 1)}),
        "password authentication failed for user \"mlflow\". Correct user and password in mlflow.backendStoreUriFrom.",
        lambda access: secret(access, "wrong", {"uri": DATABASE_URI}),
    ),
    "no-database": (
        [DATABASE % "mlflow-database"],
        lambda access: scale(access, "database", NAMESPACE, 0),
        "Check that it runs, that this pod may reach it, and mlflow.backendStoreUriFrom.",
        lambda access: scale(access, "database", NAMESPACE, 1),
    ),
    "no-bucket": (
        [f"--set=mlflow.artifactsDestination=s3://{BUCKET}/a", "--set=s3.existingSecret=mlflow-bucket", "--set=s3.endpointUrl=http://bucket:7070"],
        lambda _: None,
        f"The bucket {BUCKET} (mlflow.artifactsDestination) at http://bucket:7070 does not exist: create it",
        lambda access: make_bucket(access, NAMESPACE),
    ),
    "no-volume": (
        ["--set=storage.storageClassName=later"],
        lambda access: access.kubectl("delete", "storageclass", "later", "--ignore-not-found"),
        "unbound immediate PersistentVolumeClaims",
        storage_class,
    ),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_pod_reports_what_is_missing_and_recovers(stores: Access, name: str) -> None:
    values, before, message, fix = CASES[name]
    before(stores)
    stores.helm("install", name, str(CHART), "--namespace", NAMESPACE, *image_values(MLFLOW), *SMALL, *values)
    try:
        wait_for(message, lambda: message in reported(stores, name), timeout_seconds=300, remedy="")
        assert not ready(stores, name)
        assert PASSWORD not in reported(stores, name)
        uid = pod(stores, name)["metadata"]["uid"]

        fix(stores)

        wait_for("the pod that waited", lambda: ready(stores, name), timeout_seconds=300, remedy="")
        assert pod(stores, name)["metadata"]["uid"] == uid
    finally:
        stores.helm("uninstall", name, "--namespace", NAMESPACE, "--wait")
        stores.kubectl("delete", "storageclass", "later", "--ignore-not-found")


def client(access: Access, uri: str, *arguments: str) -> list[str]:
    """Run the client in a different namespace and return its output: run, metric and SHA-256."""
    options = (f"--env=MLFLOW_TRACKING_URI={uri}",)
    printed = printed_by(access, "default", MLFLOW.reference, "python3", "-c", CLIENT, *arguments, options=options)
    return next(line for line in printed.splitlines() if line.startswith("RUN ")).split()[1:]


@pytest.mark.long
def test_runs_survive_a_killed_pod_an_upgrade_and_an_uninstall(access: Access) -> None:
    namespace, release = "mlflow-kept", "kept"
    uri = f"http://{release}-mlflow.{namespace}.svc.cluster.local:5000"
    install(access, release, CHART, namespace, *image_values(MLFLOW), *SMALL)
    try:
        logged = client(access, uri)
        assert logged[1] == "0.75"
        assert len(logged[2]) == hashlib.sha256().digest_size * 2

        access.kubectl(
            "delete", "pod", "-n", namespace, "-l", "app.kubernetes.io/name=mlflow", "--grace-period=0", "--force"
        )
        access.kubectl("rollout", "status", f"deployment/{release}-mlflow", "-n", namespace, "--timeout=300s")
        assert client(access, uri, logged[0]) == logged

        install(access, release, CHART, namespace, *image_values(MLFLOW), *SMALL, "--set-string=pod.annotations.a=b")
        assert client(access, uri, logged[0]) == logged

        access.helm("uninstall", release, "--namespace", namespace, "--wait")
        install(access, release, CHART, namespace, *image_values(MLFLOW), *SMALL)
        assert client(access, uri, logged[0]) == logged
    finally:
        access.helm("uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait")
        access.kubectl("delete", "namespace", namespace)


@pytest.mark.long
@pytest.mark.parametrize("case", sorted(CHART.glob("ci/*-values.yaml")), ids=lambda path: path.stem)
def test_example_installs_with_helm_3(access: Access, case: Any) -> None:
    helm3 = [clients() / "helm3", "--kubeconfig", access.kubeconfig, "--namespace=mlflow-helm3"]
    try:
        install_ = [
            "install",
            "example",
            CHART,
            f"--values={case}",
            *image_values(MLFLOW),
            "--create-namespace",
            "--wait",
        ]
        run([*helm3, *install_, "--timeout=300s"])
        tested = run([*helm3, "test", "example", "--timeout=300s"])
        run([*helm3, "uninstall", "example", "--wait"])
    finally:
        access.kubectl("delete", "namespace", "mlflow-helm3", "--ignore-not-found")

    assert "Phase:          Succeeded" in tested
