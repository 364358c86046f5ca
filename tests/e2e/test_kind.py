"""What only kind has: a network plugin that enforces policies, and a second worker to which a drain moves the pods."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.cluster.access import Access
from tests.cluster.cache import ROOT
from tests.cluster.console import run
from tests.cluster.images import APP
from tests.cluster.main_job import (
    ALIAS,
    MODEL,
    MONITORING,
    NAMESPACE,
    OBSERVABILITY,
    RELEASE,
    TRACKING_URI,
    image_values,
    install,
)
from tests.cluster.programs import find
from tests.e2e.test_traffic import FULLNAME, under_load

POLICED = "policed"
POLICED_SERVICE = (f"{POLICED}-model-service", "80")
OPEN_SERVICE = (FULLNAME, "80")
MLFLOW = (f"{OBSERVABILITY}-mlflow.{MONITORING}.svc.cluster.local", "5000")
PROMETHEUS = (f"prometheus-operated.{MONITORING}.svc.cluster.local", "9090")
# The name is resolved outside of the try: a pod that cannot ask DNS is a failed test, not a refused connection.
CONNECT = """
import socket, sys
address = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), socket.AF_INET, socket.SOCK_STREAM)[0][4]
try:
    socket.create_connection(address, timeout=5).close()
    print("connected")
except OSError:
    print("refused")
"""


@pytest.fixture
def _policed(access: Access) -> Iterator[None]:
    """A release whose NetworkPolicy lets in the pods with the label `caller: friend`.

    That it becomes ready shows three of the ways that its policy leaves open: DNS, MLflow and the kubelet's probes.
    """
    try:
        install(
            access, POLICED, ROOT / "charts" / "model-service", NAMESPACE, *image_values(APP),
            f"--set-string=model.uri=models:/{MODEL}@{ALIAS}", f"--set-string=mlflow.trackingUri={TRACKING_URI}",
            "--set=replicaCount=1", "--set=podDisruptionBudget.enabled=false", "--set=resources.requests.cpu=50m",
            "--set=networkPolicy.enabled=true",
            "--set-string=networkPolicy.ingressFrom[0].podSelector.matchLabels.caller=friend",
        )  # fmt: skip
        yield
    finally:
        access.helm("uninstall", POLICED, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")


def _from_caller(access: Access, label: str, target: tuple[str, str]) -> str:
    """Connect to a host and port from a new pod with the label `caller`; return "connected" or "refused"."""
    return access.kubectl(
        "run", f"caller-{uuid4().hex[:8]}", "--rm", "--stdin", "--quiet", "--restart=Never", f"--namespace={NAMESPACE}",
        f"--labels=caller={label}", f"--image={APP.reference}", "--command", "--", "python3", "-c", CONNECT, *target,
    ).strip()  # fmt: skip


def _from_policed(access: Access, target: tuple[str, str]) -> str:
    """Connect to a host and port from the pod that the policy is for; return "connected" or "refused"."""
    pod = [f"deployment/{POLICED_SERVICE[0]}", f"--namespace={NAMESPACE}"]
    return access.kubectl("exec", *pod, "--", "python3", "-c", CONNECT, *target).strip()


@pytest.mark.usefixtures("_policed")
def test_network_policy_lets_in_the_named_callers_alone(access: Access) -> None:
    assert _from_caller(access, "friend", POLICED_SERVICE) == "connected"
    assert _from_caller(access, "stranger", POLICED_SERVICE) == "refused"
    assert _from_caller(access, "stranger", OPEN_SERVICE) == "connected", "a release without a policy lets it in"

    assert "Succeeded" in access.helm("test", POLICED, "--namespace", NAMESPACE, "--timeout", "120s")


@pytest.mark.usefixtures("_policed")
def test_network_policy_lets_out_to_mlflow_alone(access: Access) -> None:
    assert _from_policed(access, MLFLOW) == "connected"
    assert _from_policed(access, PROMETHEUS) == "refused", "the same namespace, but not MLflow's port"
    assert _from_caller(access, "stranger", PROMETHEUS) == "connected", "a pod without a policy reaches it"


def _nodes(access: Access, selector: str, namespace: str) -> set[str]:
    """Return the names of the nodes on which the selected pods are."""
    return {pod["spec"]["nodeName"] for pod in access.get_all("pod", selector, namespace)}


@pytest.fixture
def workers(access: Access) -> Iterator[tuple[str, str]]:
    """The worker to drain and the other one, where MLflow's volume is: pods that move need MLflow for their model."""
    nodes = access.get_all("node", "!node-role.kubernetes.io/control-plane", NAMESPACE)
    (other,) = _nodes(access, "app.kubernetes.io/name=mlflow", MONITORING)
    (drained,) = {node["metadata"]["name"] for node in nodes} - {other}
    try:
        yield drained, other
    finally:
        access.kubectl("uncordon", drained, other)
        # The drain took along what else was on the node; the tests that follow find all of it up again.
        for kind, namespace in (("deployment", "kube-system"), ("deployment", MONITORING), ("statefulset", MONITORING)):
            access.kubectl("rollout", "status", kind, "--namespace", namespace, "--timeout=300s")


def test_drain_honours_the_disruption_budget_and_no_request_fails(
    access: Access, workers: tuple[str, str], tmp_path: Path
) -> None:
    drained, other = workers
    pods = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=model-service"
    rollout = ["rollout", "status", f"deployment/{FULLNAME}", f"--namespace={NAMESPACE}", "--timeout=120s"]
    # Every pod to the node that is drained: the budget then has to hold all but one back. The load runs on the other.
    access.kubectl("cordon", other)
    access.kubectl("delete", "pod", f"--selector={pods}", f"--namespace={NAMESPACE}")
    access.kubectl(*rollout)
    assert _nodes(access, pods, NAMESPACE) == {drained}
    access.kubectl("uncordon", other)
    access.kubectl("cordon", drained)

    log = tmp_path / "drain.log"  # kubectl tells of refused evictions on standard error
    drain = [find("kubectl"), "--kubeconfig", access.kubeconfig, "drain", drained]
    with under_load(access, clients=2, seconds=120, requests=1_000_000) as counted:
        started = time.monotonic()
        run([*drain, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=110s"], log=log)
        print(f"drained in {time.monotonic() - started:.0f} s")
    access.kubectl(*rollout)

    assert _nodes(access, pods, NAMESPACE) == {other}
    assert re.search(rf'pods/"{FULLNAME}-\S+" .*disruption budget', log.read_text()), log.read_text()
    print(counted)
    assert counted["failures"] == 0, counted
    assert counted["requests"] >= 500, counted
