"""Tests that a release keeps its pods while an autoscaler takes over their number, with both Helm versions."""

from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.traffic import under_load
from tools.charts import MODEL_SERVICE
from tools.cluster.access import Access
from tools.cluster.console import run, wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import ALIAS, MODEL, TRACKING_URI, image_values
from tools.cluster.programs import clients

NAMESPACE, RELEASE, FULLNAME = "scaling", "handover", "handover-model-service"
AUTOSCALED = (  # the tests change the number of pods themselves
    "--set=autoscaling.enabled=true", "--set=autoscaling.minReplicas=1",
    "--set=autoscaling.targetCPUUtilizationPercentage=100000",
    "--set=autoscaling.behavior.scaleDown.selectPolicy=Disabled",
)  # fmt: skip


@pytest.fixture(params=["helm", "helm3"])
def helm(access: Access, request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of a Helm version, with a namespace that is removed afterwards."""
    access.kubectl("create", "namespace", NAMESPACE)
    yield str(request.param)
    access.kubectl("delete", "namespace", NAMESPACE, "--wait=true")


def upgrade(access: Access, helm: str, *values: str) -> dict[str, object]:
    """Install or upgrade the release, wait until it is ready, and return the Deployment's spec in its manifest."""
    command = [clients() / helm, "--kubeconfig", access.kubeconfig]
    release = [RELEASE, f"--namespace={NAMESPACE}"]
    run(
        [
            *command, "upgrade", "--install", *release, str(MODEL_SERVICE), "--wait", "--timeout=10m",
            *image_values(APP),
            f"--set-string=model.uri=models:/{MODEL}@{ALIAS}", f"--set-string=mlflow.trackingUri={TRACKING_URI}",
            "--set=resources.requests.cpu=20m", "--set=resources.requests.memory=64Mi", *values,
        ],
        timeout_seconds=300,
    )  # fmt: skip
    objects = yaml.safe_load_all(run([*command, "get", "manifest", *release]))
    spec: dict[str, object] = next(each["spec"] for each in objects if each["kind"] == "Deployment")
    return spec


def pods(access: Access) -> set[str]:
    """Return the names of the pods that run and are not about to end."""
    found = access.get_all("pod", f"app.kubernetes.io/instance={RELEASE}", NAMESPACE)
    return {pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]}


def scale(access: Access, number: int) -> None:
    """Change the number of pods as an autoscaler does, and wait for the pods."""
    access.kubectl("scale", f"deployment/{FULLNAME}", f"--replicas={number}", f"--namespace={NAMESPACE}")
    access.kubectl("rollout", "status", f"deployment/{FULLNAME}", f"--namespace={NAMESPACE}", "--timeout=300s")
    wait_for("the pods", lambda: len(pods(access)) == number, timeout_seconds=300, remedy="")


def test_autoscaler_takes_over_without_losing_a_pod(access: Access, helm: str) -> None:
    fixed = upgrade(access, helm, "--set=replicaCount=5")
    before = pods(access)
    with under_load(access, namespace=NAMESPACE, host=FULLNAME) as counted:
        handed_over = upgrade(access, helm, *AUTOSCALED)
        again = upgrade(access, helm, *AUTOSCALED, "--set-string=deployment.annotations.team=risk")
    after = pods(access)
    scale(access, 6)
    settled = upgrade(access, helm, *AUTOSCALED)
    grown = pods(access)
    # Helm 4 refuses to take a field from the autoscaler unless it is told to.
    back = upgrade(access, helm, "--set=replicaCount=2", *(["--force-conflicts"] if helm == "helm" else []))

    assert fixed["replicas"] == handed_over["replicas"] == again["replicas"] == 5
    assert after == before
    assert counted.failures == 0, counted
    # Server-side apply, the default of Helm 4, leaves a field that somebody else owns. Helm 3 would reset it.
    assert settled.get("replicas") == {"helm": None, "helm3": 6}[helm]
    assert grown > before
    assert back["replicas"] == 2
    assert access.get("deployment", FULLNAME, NAMESPACE)["spec"]["replicas"] == 2


def test_release_that_was_autoscaled_from_the_start_states_no_number(access: Access, helm: str) -> None:
    first = upgrade(access, helm, *AUTOSCALED)
    scale(access, 3)
    before = pods(access)

    second = upgrade(access, helm, *AUTOSCALED, "--set-string=deployment.annotations.team=risk")

    assert "replicas" not in first
    assert "replicas" not in second
    assert pods(access) == before
