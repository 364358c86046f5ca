"""A pod with `values-small.yaml` that serves the model of `make up` (30 features): its memory and CPU by its cgroup."""

from collections.abc import Iterator
from time import monotonic

import pytest

from tools.cluster.access import Access
from tools.cluster.cache import ROOT
from tools.cluster.console import wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import ALIAS, MODEL, NAMESPACE, TRACKING_URI, image_values, install

RELEASE = "small"
CHART = ROOT / "charts" / "model-service"
MIB = 1024 * 1024
IDLE_SECONDS = 60


@pytest.fixture(scope="module")
def pod(access: Access) -> Iterator[str]:
    """Name of the pod of a small release, after `helm test`."""
    try:
        install(
            access, RELEASE, CHART, NAMESPACE, *image_values(APP), f"--values={CHART / 'values-small.yaml'}",
            f"--set=model.uri=models:/{MODEL}@{ALIAS}", f"--set=mlflow.trackingUri={TRACKING_URI}",
            "--set=replicaCount=1", "--set=podDisruptionBudget.enabled=false",
        )  # fmt: skip
        access.helm("test", RELEASE, "--namespace", NAMESPACE)
        [found] = access.get_all("pod", f"app.kubernetes.io/instance={RELEASE}", NAMESPACE)
        yield found["metadata"]["name"]
    finally:
        access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")


def cgroup(access: Access, pod: str, file: str) -> str:
    """Return a file of the container's cgroup."""
    return access.kubectl("exec", "--namespace", NAMESPACE, pod, "--", "cat", f"/sys/fs/cgroup/{file}")


def cpu_seconds(access: Access, pod: str) -> float:
    used = dict(line.split() for line in cgroup(access, pod, "cpu.stat").splitlines())
    return int(used["usage_usec"]) / 1e6


def test_memory_stays_within_the_request_and_far_below_the_limit(access: Access, pod: str) -> None:
    now, peak = (int(cgroup(access, pod, f"memory.{key}")) / MIB for key in ("current", "peak"))
    anonymous = dict(line.split() for line in cgroup(access, pod, "memory.stat").splitlines())["anon"]
    print(f"memory: {now:.0f} MiB now, {peak:.0f} MiB at most, {int(anonymous) / MIB:.0f} MiB anonymous")

    assert int(anonymous) / MIB < 96
    assert peak < 256


def test_idle_pod_needs_less_cpu_than_its_request(access: Access, pod: str) -> None:
    """Probes and scrapes only. A count of CPU time, which does not depend on how busy the node is."""
    start, before = monotonic(), cpu_seconds(access, pod)
    wait_for("a minute", lambda: monotonic() - start > IDLE_SECONDS, timeout_seconds=2 * IDLE_SECONDS, remedy="")
    share = (cpu_seconds(access, pod) - before) / (monotonic() - start)
    print(f"CPU of an idle pod: {1000 * share:.1f}m")

    assert share < 0.025
