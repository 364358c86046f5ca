"""The cluster that `make up` left running, for the tests that need one."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.cluster import embedded, kind, node
from tests.cluster.access import Access
from tests.cluster.main_job import MONITORING, NAMESPACE, OBSERVABILITY, SERVICE
from tests.left_out import leave_out

CLUSTER = embedded if os.environ.get("KUBECONFIG") == str(node.KUBECONFIG) else kind
# What only one of the clusters can show, and why. Left out and counted on the other, not skipped: a skip looks green.
ONLY_ON: dict[str, tuple[ModuleType, str]] = {
    "test_deploy.py": (embedded, "kind's nodes do not reach a registry on this machine's loopback"),
    "test_embedded.py": (embedded, "they end the node's own processes"),
    "test_grafana.py": (kind, "no Grafana can be had elsewhere"),
    "test_image_sizes.py": (embedded, "they read the store that buildah fills"),
    "test_images.py": (embedded, "they read the store that buildah fills"),
    "test_kind.py": (kind, "they need a network plugin that enforces policies, and two workers"),
    "test_stack.py": (embedded, "kind's own releases have the stack already"),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything here as needing a cluster, and leave out what this cluster cannot show."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
    for name, (cluster, why) in ONLY_ON.items():
        if cluster is not CLUSTER:
            only = cluster.__name__.rpartition(".")[2]
            leave_out(config, items, Path(__file__).with_name(name), f"for the {only} cluster only: {why}")


@pytest.fixture(scope="session")
def access() -> Access:
    """The cluster behind KUBECONFIG; without one the tests fail, they are not skipped."""
    kubeconfig = os.environ.get("KUBECONFIG", "")
    assert Path(kubeconfig).is_file(), "KUBECONFIG names no file: run `make e2e`, which starts the cluster first"
    return Access(Path(kubeconfig))


@pytest.fixture(scope="session")
def cluster() -> ModuleType:
    """The kind of cluster that runs: what builds images and brings them to it."""
    return CLUSTER


@pytest.fixture
def service(access: Access) -> Iterator[str]:
    """The model service's URL on this machine."""
    with access.forward(SERVICE, 80, NAMESPACE) as url:
        yield url


@pytest.fixture
def mlflow_url(access: Access) -> Iterator[str]:
    """The MLflow server's URL on this machine."""
    with access.forward(f"service/{OBSERVABILITY}-mlflow", 5000, MONITORING) as url:
        yield url


@pytest.fixture
def prometheus(access: Access) -> Iterator[str]:
    """Prometheus' URL on this machine."""
    with access.forward("service/prometheus-operated", 9090, MONITORING) as url:
        yield url
