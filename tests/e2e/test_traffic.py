"""Tests of the service under load: upgrades and rollbacks drop no request, and autoscaling adds pods."""

import json
import time
from pathlib import Path

import pytest

from tests.e2e.previous import previous_chart
from tests.e2e.traffic import FULLNAME, under_load
from tools.cluster.access import Access
from tools.cluster.console import Failure, wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import ALIAS, MODEL, NAMESPACE, RELEASE, TRACKING_URI, image_values, install, install_model

pytestmark = pytest.mark.alone


def _upgrade_and_roll_back(access: Access) -> None:
    install_model(access, f"models:/{MODEL}@{ALIAS}", f"--set-string=pod.annotations.upgraded=at-{time.time():.0f}")
    access.helm("rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=10m")


def test_upgrade_and_rollback_drop_no_request(access: Access) -> None:
    with under_load(access) as counted:
        _upgrade_and_roll_back(access)

    assert counted.failures == counted.refused == 0, counted


@pytest.mark.long
def test_upgrades_from_the_previous_chart_drop_no_request(access: Access, tmp_path: Path) -> None:
    # The previous chart knows only older keys. Each rollback returns to it.
    install(
        access, RELEASE, previous_chart(tmp_path), NAMESPACE, *image_values(APP),
        f"--set-string=model.uri=models:/{MODEL}@{ALIAS}", f"--set-string=mlflow.trackingUri={TRACKING_URI}",
        "--set=resources.requests.cpu=100m",
        "--set=autoscaling.enabled=true", "--set=autoscaling.minReplicas=2", "--set=autoscaling.maxReplicas=3",
    )  # fmt: skip
    with under_load(access, least=5_000) as counted:
        for _ in range(5):
            _upgrade_and_roll_back(access)
    install_model(access)

    print(counted)
    assert counted.failures == counted.refused == 0, counted


def pods_follow_the_load(access: Access, patience_seconds: int) -> None:
    """Load the release until it scales from one pod to three, and wait until it is one again. No request fails."""

    def replicas() -> int:
        return int(access.get("deployment", FULLNAME, NAMESPACE)["status"].get("readyReplicas", 0))

    wait_for("one pod", lambda: replicas() == 1, timeout_seconds=patience_seconds, remedy="")
    started = time.monotonic()
    with under_load(access, rate=0) as counted:
        wait_for("three pods", lambda: replicas() == 3, timeout_seconds=300, remedy="Is the metric above its target?")
        print(f"1 -> 3 pods in {time.monotonic() - started:.0f} s")
    started = time.monotonic()
    wait_for("one pod again", lambda: replicas() == 1, timeout_seconds=300, remedy="")
    print(f"3 -> 1 pods in {time.monotonic() - started:.0f} s after the load; {counted}")
    assert counted.failures == 0, counted


def test_eviction_respects_the_disruption_budget(access: Access) -> None:
    access.kubectl("rollout", "status", f"deployment/{FULLNAME}", "--namespace", NAMESPACE, "--timeout=300s")
    pods = access.get_all("pod", f"app.kubernetes.io/instance={RELEASE}", NAMESPACE)
    names = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def evict(name: str) -> None:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
        access.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))

    evict(names[0])
    with pytest.raises(Failure, match="disruption budget"):
        evict(names[1])
    access.kubectl("rollout", "status", f"deployment/{FULLNAME}", "--namespace", NAMESPACE, "--timeout=300s")


@pytest.mark.long
def test_autoscaler_scales_out_and_in(access: Access) -> None:
    quick = "--set=autoscaling.behavior.scaleDown.stabilizationWindowSeconds=15"
    install_model(access, f"models:/{MODEL}@{ALIAS}", "--set=autoscaling.minReplicas=1", quick)
    pods_follow_the_load(access, patience_seconds=180)
    install_model(access)
