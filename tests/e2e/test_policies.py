"""Tests that require a network plugin that enforces policies: what a release with a NetworkPolicy allows."""

from collections.abc import Iterator

import pytest

from tests.e2e.policies import CONNECT, Target, connect
from tests.e2e.traffic import FULLNAME
from tools.cluster.access import Access
from tools.cluster.cache import ROOT
from tools.cluster.images import APP
from tools.cluster.main_job import (
    ALIAS,
    MODEL,
    MONITORING,
    NAMESPACE,
    OBSERVABILITY,
    TRACKING_URI,
    image_values,
    install,
)

pytestmark = pytest.mark.alone

POLICED = "policed"
POLICED_SERVICE = (f"{POLICED}-model-service", "80")
OPEN_SERVICE = (FULLNAME, "80")
MLFLOW = (f"{OBSERVABILITY}-mlflow.{MONITORING}.svc.cluster.local", "5000")
PROMETHEUS = (f"prometheus-operated.{MONITORING}.svc.cluster.local", "9090")


@pytest.fixture
def _policed(access: Access) -> Iterator[None]:
    """Release whose NetworkPolicy allows pods with the label `caller: friend`.

    Its readiness proves three allowed paths: DNS, MLflow and the kubelet's probes.
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


def _from_policed(access: Access, target: Target) -> str:
    """Connect to a host and port from the pod with the policy, and return "connected" or "refused"."""
    pod = [f"deployment/{POLICED_SERVICE[0]}", f"--namespace={NAMESPACE}"]
    return access.kubectl("exec", *pod, "--", "python3", "-c", CONNECT, *target).strip()


@pytest.mark.usefixtures("_policed")
def test_network_policy_allows_only_the_given_clients(access: Access) -> None:
    assert connect(access, "friend", POLICED_SERVICE) == "connected"
    assert connect(access, "other", POLICED_SERVICE) == "refused"
    assert connect(access, "other", OPEN_SERVICE) == "connected", "a release without a policy allows it"

    assert "Succeeded" in access.helm("test", POLICED, "--namespace", NAMESPACE, "--timeout=300s")


@pytest.mark.usefixtures("_policed")
def test_network_policy_allows_egress_only_to_mlflow(access: Access) -> None:
    assert _from_policed(access, MLFLOW) == "connected"
    assert _from_policed(access, PROMETHEUS) == "refused", "same namespace, but a different port than MLflow"
    assert connect(access, "other", PROMETHEUS) == "connected", "a pod without a policy can connect"
