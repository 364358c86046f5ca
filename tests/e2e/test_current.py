"""Tests of `make up CLUSTER=current` on a kind cluster that somebody else made."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.cluster import current, engine, kind, node_image, registry
from tools.cluster.access import Access
from tools.cluster.cache import ROOT
from tools.cluster.console import run
from tools.cluster.main_job import MONITORING, NAMESPACE
from tools.cluster.programs import find

pytestmark = pytest.mark.long

OTHER = "somebody"
OBJECTS = "namespace,crd,clusterrole,clusterrolebinding"


@pytest.fixture(scope="module")
def somebody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """A cluster with one node and another name, whose node pulls from the registry as kind's documentation shows."""
    kubeconfig = tmp_path_factory.mktemp("somebody") / "config"
    image = os.environ.get("KIND_NODE_IMAGE") or (node_image.build() if engine.ours() else "")
    command = ["create", "cluster", "--name", OTHER, "--wait", "180s", "--kubeconfig", kubeconfig]
    try:
        kind.kind(*command, *(["--image", image] if image else []))
        registry.start([f"{OTHER}-control-plane"])
        yield Access(kubeconfig)
    finally:
        kind.kind("delete", "cluster", "--name", OTHER)


def cluster(verb: str, access: Access, registry_address: str) -> subprocess.CompletedProcess[str]:
    """Run `make up` or `make down` with CLUSTER=current."""
    env = {**os.environ, "KUBECONFIG": str(access.kubeconfig), "CLUSTER": "current", "REGISTRY": registry_address}
    command = [sys.executable, "-m", "tools.cluster", verb]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)


def objects(access: Access) -> set[str]:
    """Return the names of the objects that are not in a namespace, and of the Services in kube-system."""
    services = access.kubectl("get", "service", "--namespace=kube-system", "--output=name").split()
    return {*access.kubectl("get", OBJECTS, "--output=name").split(), *services}


def test_up_serves_a_model_and_down_removes_exactly_what_it_installed(somebody: Access) -> None:
    before = objects(somebody)

    up = cluster("up", somebody, registry.address())

    assert up.returncode == 0, up.stdout + up.stderr
    assert "A pod answered /predict" in up.stdout
    created = objects(somebody) - before
    assert {f"namespace/{MONITORING}", f"namespace/{NAMESPACE}"} <= created

    down = cluster("down", somebody, registry.address())

    assert down.returncode == 0, down.stdout + down.stderr
    assert objects(somebody) == before
    assert kind.KUBECONFIG.exists(), "our own cluster stays"


def test_namespace_of_somebody_else_is_refused_and_kept(somebody: Access) -> None:
    somebody.kubectl("create", "namespace", MONITORING)
    try:
        up = cluster("up", somebody, registry.address())

        assert up.returncode == 1
        assert f"already has a namespace {MONITORING}, which make up did not create" in up.stdout
        cluster("down", somebody, registry.address())
        assert f"namespace/{MONITORING}" in objects(somebody)
    finally:
        somebody.kubectl("delete", "namespace", MONITORING)


def test_missing_registry_is_reported(somebody: Access) -> None:
    up = cluster("up", somebody, "")

    assert up.returncode == 1
    assert "make up CLUSTER=current REGISTRY=" in up.stdout


def test_cluster_that_does_not_answer_is_reported(somebody: Access, tmp_path: Path) -> None:
    moved = tmp_path / "config"
    moved.write_text(somebody.kubeconfig.read_text())
    run(
        [
            find("kubectl"),
            "config",
            "set-cluster",
            f"kind-{OTHER}",
            "--server=https://127.0.0.1:1",
            "--kubeconfig",
            moved,
        ]
    )

    up = cluster("up", Access(moved), registry.address())

    assert up.returncode == 1
    assert "The cluster of kubectl's current context does not answer." in up.stdout
    assert current.STATE.exists()
