"""A pod with `values-small.yaml` that serves the model of `make up` (30 features): memory and CPU of its process."""

from collections.abc import Iterator
from time import monotonic, sleep

import pytest

from tools.cluster.access import Access
from tools.cluster.cache import ROOT
from tools.cluster.images import APP
from tools.cluster.main_job import ALIAS, MODEL, NAMESPACE, TRACKING_URI, image_values, install

RELEASE = "small"
CHART = ROOT / "charts" / "model-service"
IDLE_SECONDS = 60
TICKS = 100  # of CPU time per second, in /proc


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
        [found] = access.get_all(
            "pod", f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=model-service", NAMESPACE
        )
        yield found["metadata"]["name"]
    finally:
        access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")


def process(access: Access, pod: str, file: str) -> str:
    """Return a file about the service's process. It is the same under both versions of cgroups."""
    return access.kubectl("exec", "--namespace", NAMESPACE, pod, "--", "cat", f"/proc/1/{file}")


def test_memory_stays_within_the_request_and_far_below_the_limit(access: Access, pod: str) -> None:
    lines = (line.split() for line in process(access, pod, "status").splitlines())
    mib = {line[0]: int(line[1]) / 1024 for line in lines if line[-1] == "kB"}
    print(f"memory: {mib['RssAnon:']:.0f} MiB anonymous, {mib['VmHWM:']:.0f} MiB at most")

    assert mib["RssAnon:"] < 96
    assert mib["VmHWM:"] < 256


@pytest.mark.long
def test_idle_pod_needs_less_cpu_than_its_request(access: Access, pod: str) -> None:
    """Probes and scrapes only. A count of CPU time, which does not depend on how busy the node is."""

    def cpu_seconds() -> float:
        user, system = process(access, pod, "stat").rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS

    start, before = monotonic(), cpu_seconds()
    sleep(IDLE_SECONDS)
    share = (cpu_seconds() - before) / (monotonic() - start)
    print(f"CPU of an idle pod: {1000 * share:.1f}m")

    assert share < 0.025
