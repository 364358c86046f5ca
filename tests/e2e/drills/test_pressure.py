"""Drills of too little: too few slots, too little CPU, a full volume, a network that loses packets."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.drills.drill import (
    NAMESPACE,
    SELECTOR,
    drill,
    install_release,
    on_node,
    pods,
    wait_for_alerts,
    wait_until_complete,
)
from tools.cluster.access import Access
from tools.cluster.console import wait_for

FILL = "open('{}', 'wb').write(bytes(200_000_000))"


@pytest.mark.long
def test_throttled_cpu(access: Access) -> None:
    promise = "no request fails; responses are slower"
    fault = "an upgrade to a limit of 0.1 cores for each pod"
    with drill(access, "throttled CPU", fault=fault, promise=promise, rate=5) as counted:
        install_release(access, "--set=resources.limits.cpu=100m")

    assert counted.failures == 0


@pytest.mark.long
def test_full_cache(access: Access) -> None:
    install_release(access, "--set-string=emptyDirSizeLimits.cache=50Mi")
    wait_until_complete(access)
    fault = "the cache volume of a pod is full, and Kubernetes evicts it"
    # The network of an evicted pod may end before the pod leaves the Service: a client then waits for its 10 s.
    promise = "requests on that pod fail until it has left the Service, at most 20 s"
    with drill(access, "full volume", fault=fault, promise=promise) as counted:
        victim = pods(access)[0]
        mounts = access.get("pod", victim, NAMESPACE)["spec"]["containers"][0]["volumeMounts"]
        (cache,) = (mount["mountPath"] for mount in mounts if mount["name"] == "cache")
        command = ["exec", victim, f"--namespace={NAMESPACE}", "--", "python3", "-c", FILL.format(f"{cache}/full")]
        access.kubectl(*command)
        # The pod itself may say that it succeeded, because the service exits with 0 when it is told to end.
        events = ["events", f"--namespace={NAMESPACE}", f"--field-selector=involvedObject.name={victim}"]
        evicted = lambda: "Evicted" in access.kubectl("get", *events, "--output=jsonpath={..reason}")  # noqa: E731
        wait_for("the eviction", evicted, timeout_seconds=300, remedy="")
        access.kubectl("delete", "pod", victim, f"--namespace={NAMESPACE}")
        wait_until_complete(access)

    assert counted.failing_seconds <= 20


@contextmanager
def _losing_packets(access: Access, pod: str, share: float) -> Iterator[None]:
    """Drop a share of the packets to a pod, on its node."""
    address = access.get("pod", pod, NAMESPACE)["status"]["podIP"]
    rule = f"FORWARD -d {address} -m statistic --mode random --probability {share} -j DROP"
    on_node(access, pod, f"iptables --wait -I {rule}")
    try:
        yield
    finally:
        on_node(access, pod, f"iptables --wait -D {rule}")


@pytest.mark.long
def test_lossy_network(access: Access) -> None:
    promise = "no request fails; responses are slower"
    fault = "2 % of the packets to a pod are lost for half a minute"
    with (
        drill(access, "lossy network", fault=fault, promise=promise) as counted,
        _losing_packets(access, pods(access)[0], 0.02),
    ):
        time.sleep(30)

    assert counted.failures == 0


@pytest.mark.long
def test_more_callers_than_slots(access: Access) -> None:
    """The last drill of the release, because the alerts of its error budget last for hours."""
    install_release(access, "--set=replicaCount=1", "--set=resources.limits.cpu=250m")
    wait_until_complete(access, 1)
    alerts = ["ModelServiceErrorBudgetBurn", "ModelServiceOverloaded"]
    promise = "each request gets a prediction, or a 503 with Retry-After; no restart"
    fault = "400 callers without pauses, against a pod with 32 slots and a quarter of a core"
    with drill(
        access, "overload", fault=fault, promise=promise, alerts=alerts, clients=400, rate=0, ends=False
    ) as counted:
        wait_for_alerts(access, *alerts)
    found = access.get_all("pod", SELECTOR, NAMESPACE)
    install_release(access)

    assert counted.failures == 0
    assert counted.refused
    assert [status["restartCount"] for pod in found for status in pod["status"]["containerStatuses"]] == [0]
