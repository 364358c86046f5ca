"""Drills of pods and nodes that end: what ends in order costs nothing, and what is killed costs what was in flight."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.e2e.drills.drill import (
    NAMESPACE,
    NOTHING,
    SELECTOR,
    UNTIL_IT_LEFT,
    drill,
    kill,
    look_at,
    pods,
    wait_for_alerts,
    wait_until_complete,
)
from tools.cluster import engine, kind
from tools.cluster.access import Access
from tools.cluster.console import wait_for
from tools.cluster.main_job import MONITORING

# Fills the memory of a container with a file, which belongs to no process: so the kernel ends the largest, the service.
FILL = "import os\nfile = os.memfd_create('full')\nwhile True: os.write(file, bytes(1 << 20))"


def _restarts(access: Access) -> int:
    found = access.get_all("pod", SELECTOR, NAMESPACE)
    return sum(status["restartCount"] for pod in found for status in pod["status"].get("containerStatuses", []))


def _ready(access: Access) -> bool:
    found = [pod["status"].get("containerStatuses", [{}])[0] for pod in access.get_all("pod", SELECTOR, NAMESPACE)]
    return bool(found) and all(status.get("ready") for status in found)


def _restarted(access: Access, before: int) -> None:
    wait_for("the restart", lambda: _restarts(access) > before and _ready(access), timeout_seconds=300, remedy="")


def test_deleted_pod(access: Access) -> None:
    with drill(access, "deleted pod", fault="a pod is deleted", promise=NOTHING) as counted:
        access.kubectl("delete", "pod", pods(access)[0], f"--namespace={NAMESPACE}")
        wait_until_complete(access)

    assert counted.failures == counted.refused == 0


def test_killed_process(access: Access) -> None:
    with drill(
        access, "killed process", fault="the process of a pod is killed (`kill -9`)", promise=UNTIL_IT_LEFT
    ) as counted:
        before = _restarts(access)
        kill(access, pods(access)[0])
        _restarted(access, before)

    assert counted.failing_seconds <= 10


@pytest.mark.long
def test_pod_that_is_killed_again_and_again(access: Access) -> None:
    promise = "requests on that pod fail until it has left the Service, each time"
    alert = "ModelServiceRestarting"
    with drill(
        access, "crash loop", fault="the process of a pod is killed four times", promise=promise, alerts=[alert]
    ):
        victim = pods(access)[0]
        for _ in range(4):
            before = _restarts(access)
            kill(access, victim)
            _restarted(access, before)
            time.sleep(16)  # Prometheus counts the restarts that it sees, and looks every 15 s
        wait_for_alerts(access, alert)
        assert re.search(r"Last State: +Terminated.*Exit Code: +137", look_at(access, alert), re.DOTALL)
        access.kubectl("delete", "pod", victim, f"--namespace={NAMESPACE}")
        wait_until_complete(access)


@pytest.mark.long
def test_process_that_the_kernel_ends_for_want_of_memory(access: Access) -> None:
    with drill(
        access, "out of memory", fault="the memory of a pod's container is full", promise=UNTIL_IT_LEFT
    ) as counted:
        victim, before = pods(access)[0], _restarts(access)
        command = ["exec", victim, f"--namespace={NAMESPACE}", "--", "python3", "-c", FILL]
        with pytest.raises(Exception, match=r"137|terminated"):
            access.kubectl(*command)
        _restarted(access, before)
        (ended,) = (
            status["lastState"]["terminated"]["reason"]
            for status in access.get("pod", victim, NAMESPACE)["status"]["containerStatuses"]
        )

    assert ended == "OOMKilled"
    assert counted.failing_seconds <= 10


@pytest.fixture
def workers(access: Access) -> Iterator[tuple[str, str]]:
    """A worker to lose, and the one with Prometheus, where the clients run."""
    found = access.get_all("node", "!node-role.kubernetes.io/control-plane", NAMESPACE)
    names = {node["metadata"]["name"] for node in found}
    assert len(names) == 2, "the drill needs two workers: NODES=3 make up"
    (kept,) = {
        pod["spec"]["nodeName"] for pod in access.get_all("pod", "app.kubernetes.io/name=prometheus", MONITORING)
    }
    (lost,) = names - {kept}
    yield lost, kept
    kind.start()
    for namespace in ("kube-system", MONITORING):
        access.kubectl("rollout", "status", "deployment", f"--namespace={namespace}", "--timeout=300s")


@pytest.mark.long
def test_lost_node(access: Access, workers: tuple[str, str]) -> None:
    lost, kept = workers
    promise = "requests that reach the lost pod fail until Kubernetes notices, at most 60 s"
    fault = "a worker loses power"
    with drill(access, "lost node", fault=fault, promise=promise, node=kept) as counted:
        engine.docker("kill", lost)
        condition = "--for=condition=Ready=Unknown"
        access.kubectl("wait", f"node/{lost}", condition, "--timeout=300s")

    assert counted.failing_seconds <= 75
