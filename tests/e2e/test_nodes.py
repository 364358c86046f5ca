"""Tests that require two workers: a second worker takes the pods of a drained node."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.traffic import FULLNAME, under_load
from tools.cluster.access import Access
from tools.cluster.console import run, wait_for
from tools.cluster.main_job import MONITORING, NAMESPACE, RELEASE
from tools.cluster.programs import find

pytestmark = pytest.mark.alone


def _nodes(access: Access, selector: str, namespace: str) -> set[str]:
    """Return the names of the nodes of the selected pods."""
    return {pod["spec"]["nodeName"] for pod in access.get_all("pod", selector, namespace)}


@pytest.fixture
def workers(access: Access) -> Iterator[tuple[str, str]]:
    """The worker to drain, and the one with MLflow's volume, which moved pods need to load their model."""
    nodes = access.get_all("node", "!node-role.kubernetes.io/control-plane", NAMESPACE)
    (other,) = _nodes(access, "app.kubernetes.io/name=mlflow", MONITORING)
    (drained,) = {node["metadata"]["name"] for node in nodes} - {other}
    try:
        yield drained, other
    finally:
        access.kubectl("uncordon", drained, other)
        # The drain also evicted other pods of the node. The next tests need them to be ready.
        for kind, namespace in (("deployment", "kube-system"), ("deployment", MONITORING), ("statefulset", MONITORING)):
            access.kubectl("rollout", "status", kind, "--namespace", namespace, "--timeout=300s")


def test_default_spread_uses_both_workers(access: Access, workers: tuple[str, str]) -> None:
    pods = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=model-service"
    access.kubectl("rollout", "restart", f"deployment/{FULLNAME}", f"--namespace={NAMESPACE}")
    access.kubectl("rollout", "status", f"deployment/{FULLNAME}", f"--namespace={NAMESPACE}", "--timeout=300s")

    def spread() -> bool:  # once the pods of the old revision are gone
        return _nodes(access, pods, NAMESPACE) == set(workers)

    wait_for("a pod on each worker", spread, timeout_seconds=300, remedy="See the topology spread constraints.")


def test_drain_respects_the_disruption_budget_and_drops_no_request(
    access: Access, workers: tuple[str, str], tmp_path: Path
) -> None:
    drained, other = workers
    pods = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=model-service"
    rollout = ["rollout", "status", f"deployment/{FULLNAME}", f"--namespace={NAMESPACE}", "--timeout=300s"]
    # Move every pod to the drained node, so that the budget delays all evictions but one. The load runs on the other.
    access.kubectl("cordon", other)
    access.kubectl("delete", "pod", f"--selector={pods}", f"--namespace={NAMESPACE}")
    access.kubectl(*rollout)
    assert _nodes(access, pods, NAMESPACE) == {drained}
    access.kubectl("uncordon", other)
    access.kubectl("cordon", drained)

    log = tmp_path / "drain.log"  # kubectl reports refused evictions on standard error
    drain = [find("kubectl"), "--kubeconfig", access.kubeconfig, "drain", drained]
    with under_load(access, node=other) as counted:
        started = time.monotonic()
        run([*drain, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=110s"], log=log)
        print(f"drained in {time.monotonic() - started:.0f} s")
    access.kubectl(*rollout)

    assert _nodes(access, pods, NAMESPACE) == {other}
    assert re.search(rf'pods/"{FULLNAME}-\S+" .*disruption budget', log.read_text()), log.read_text()
    print(counted)
    assert counted.failures == counted.refused == 0, counted
