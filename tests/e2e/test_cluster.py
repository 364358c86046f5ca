"""Tests of the cluster itself: repair by a second `make up`, the cause of a pod that waits, and a `make down` that
leaves nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.cluster import engine, kind, registry
from tools.cluster.access import Access, http
from tools.cluster.cache import ROOT
from tools.cluster.console import wait_for
from tools.cluster.main_job import NAMESPACE, SERVICE, complaints

pytestmark = pytest.mark.alone

CLUSTER = [sys.executable, "-m", "tools.cluster"]


def nodes() -> list[str]:
    """Return the names of the nodes' containers, which are the names of the nodes."""
    return sorted(kind.kind("get", "nodes", "--name", kind.NAME).split())


def containers() -> dict[str, str]:
    """Return when each running container started."""
    names = engine.docker("ps", "--format", "{{.Names}}").split()
    return {name: engine.docker("inspect", "--format", "{{.State.StartedAt}}", name) for name in names}


def processes(word: str) -> list[int]:
    """Return the numbers of the processes whose command contains a word, without this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if word.encode() in command and folder.name != str(os.getpid()):
            found.append(int(folder.name))
    return found


def assert_ready(access: Access) -> None:
    access.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=300s")
    access.kubectl("rollout", "status", "deployment", "--namespace", NAMESPACE, "--timeout=300s")

    def predicts() -> Any:
        with access.forward(SERVICE, 80, NAMESPACE) as url:
            return http(f"{url}/predict", http(f"{url}/model")["input_example"])["predictions"]

    # A node is Ready until its kubelet is missed, so a kubelet that starts again may refuse the first connections.
    wait_for("a prediction", predicts, timeout_seconds=300, remedy="See the pods' logs.")


def test_kubeconfig_is_private() -> None:
    assert kind.KUBECONFIG.stat().st_mode & 0o777 == 0o600
    assert kind.STATE.stat().st_mode & 0o777 == 0o700


def test_second_start_restarts_nothing() -> None:
    before = containers()

    kind.start()

    assert containers() == before
    assert all(node in kind.status() for node in nodes())


def test_start_starts_a_registry_that_was_killed() -> None:
    engine.docker("kill", registry.NAME)

    kind.start()

    assert registry.NAME in containers()
    assert http(f"http://{registry.address()}/v2/_catalog")["repositories"], "its images are still there"


@pytest.mark.parametrize("program", ["kubelet", "containerd"])
def test_node_recovers_from_a_killed_program(access: Access, program: str) -> None:
    node = nodes()[-1]
    before = engine.docker("exec", node, "pidof", program)
    engine.docker("exec", node, "pkill", "--signal=KILL", "--exact", program)

    wait_for(
        f"{program} of {node}",
        lambda: engine.docker("exec", node, "pidof", program) not in ("", before),
        timeout_seconds=300,
        remedy="See journalctl in the node.",
    )
    assert_ready(access)


def test_start_starts_a_node_that_was_killed(access: Access) -> None:
    node = nodes()[-1]
    engine.docker("kill", node)
    assert node not in containers()

    kind.start()

    assert node in containers()
    assert_ready(access)


@pytest.fixture
def waiting(access: Access) -> Iterator[str]:
    """Name of a pod that no node can take, because its claim has a StorageClass that does not exist."""
    name = "waits-for-its-claim"
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "no-such-class",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": name}}
    container = {"name": "main", "image": "localhost/none:1"}
    objects = {
        "PersistentVolumeClaim": claim,
        "Pod": {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0},
    }
    for each, spec in objects.items():
        made = {"apiVersion": "v1", "kind": each, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
        access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))
    yield name
    for each in reversed(objects):
        access.kubectl("delete", each, name, "--namespace", NAMESPACE)


def test_pod_that_is_not_scheduled_is_reported_with_the_event_of_its_claim(access: Access, waiting: str) -> None:
    wait_for(
        "the cause in the report",
        lambda: (
            f'claim {waiting}: storageclass.storage.k8s.io "no-such-class" not found' in complaints(access, NAMESPACE)
        ),
        timeout_seconds=300,
        remedy=complaints(access, NAMESPACE),
    )

    assert f"{waiting}: " in complaints(access, NAMESPACE)


@pytest.mark.long
@pytest.mark.parametrize("missing", ["node", "administrator"])
def test_start_replaces_a_cluster_that_is_half_made(access: Access, missing: str) -> None:
    if missing == "node":  # as after a run that was killed while it created the cluster
        engine.docker("rm", "--force", nodes()[-1])
    else:  # as after a creation that took longer than kubeadm's limits
        access.kubectl("delete", "clusterrolebinding", "kubeadm:cluster-admins")

    subprocess.run([*CLUSTER, "up"], cwd=ROOT, check=True, timeout=900)

    assert_ready(access)


@pytest.mark.long
def test_start_starts_an_engine_that_was_killed(access: Access) -> None:
    """As after the kernel ended it for want of memory: its containerd and its bridges are still there."""
    assert engine.running(), "a user's engine must not be killed"
    (pid,) = processes(str(engine.SOCKET))
    os.kill(pid, signal.SIGKILL)

    subprocess.run([*CLUSTER, "up"], cwd=ROOT, check=True, timeout=900)

    assert_ready(access)


@pytest.mark.long
def test_down_removes_everything_and_up_works_again() -> None:
    assert engine.running(), "with a user's engine there is less to remove"
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    subprocess.run([*CLUSTER, "down"], cwd=ROOT, check=True, timeout=300)

    assert not engine.running()
    assert not engine.SOCKET.exists()
    assert not kind.STATE.exists()
    assert not engine.RUNTIME.exists()
    assert str(engine.STATE) not in Path("/proc/self/mountinfo").read_text()
    left = {path.name for path in Path("/sys/class/net").iterdir()}
    assert {engine.BRIDGE, engine.KIND_BRIDGE} <= links - left
    assert not [name for name in left if name.startswith(("br-", "veth"))]
    assert not processes(str(engine.STATE))
    subprocess.run([*CLUSTER, "up"], cwd=ROOT, check=True, timeout=900)
