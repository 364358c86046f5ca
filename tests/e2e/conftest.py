"""Fixtures for tests on the cluster that `make up` started."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import policies
from tests.left_out import leave_out
from tools.cluster import engine
from tools.cluster.access import Access
from tools.cluster.main_job import MONITORING, NAMESPACE, OBSERVABILITY, SERVICE

HERE = Path(__file__).parent
BUILDAH = "they use buildah, which builds the images only where no Docker engine answers"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests in this folder as e2e. Files run side by side, the tests of a file in order (loadfile)."""
    item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(trylast=True)  # after the selection by -m and -k, because the reasons cost time
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that this cluster cannot run: a skip looks green."""
    files = {item.path.name for item in items if HERE in item.path.parents}
    for name, why in _impossible(files).items():
        leave_out(config, items, HERE / name, why)


def _impossible(files: set[str]) -> dict[str, str]:
    """Return the files whose tests cannot run here, and why."""
    reasons: dict[str, str] = {}
    if not engine.ours():
        reasons |= dict.fromkeys(("test_deploy.py", "test_images.py", "test_image_sizes.py"), BUILDAH)
        reasons["test_stack.py"] = "because the cluster already runs the stack"
    else:
        reasons["test_grafana.py"] = "because the image of Grafana cannot be pulled"
    if not _kubeconfig().is_file():
        return reasons  # the fixture `access` then fails the tests
    access = Access(_kubeconfig())
    if "test_policies.py" in files and not policies.enforced(access):
        reasons["test_policies.py"] = "because the network plugin of this cluster does not enforce NetworkPolicies"
    workers = "!node-role.kubernetes.io/control-plane"
    if "test_nodes.py" in files and len(access.get_all("node", workers, NAMESPACE)) < 2:
        reasons["test_nodes.py"] = "because the cluster has fewer than two workers"
    return reasons


def _kubeconfig() -> Path:
    return Path(os.environ.get("KUBECONFIG") or "no kubeconfig")


@pytest.fixture(scope="session")
def access() -> Access:
    """The cluster in KUBECONFIG. Without it the tests fail instead of being skipped."""
    assert _kubeconfig().is_file(), "KUBECONFIG is not a file: run `make e2e`, which starts the cluster first"
    return Access(_kubeconfig())


@pytest.fixture
def service(access: Access) -> Iterator[str]:
    """Local URL of the model service."""
    with access.forward(SERVICE, 80, NAMESPACE) as url:
        yield url


@pytest.fixture
def mlflow_url(access: Access) -> Iterator[str]:
    """Local URL of the MLflow server."""
    with access.forward(f"service/{OBSERVABILITY}-mlflow", 5000, MONITORING) as url:
        yield url


@pytest.fixture
def prometheus(access: Access) -> Iterator[str]:
    """Local URL of Prometheus."""
    with access.forward("service/prometheus-operated", 9090, MONITORING) as url:
        yield url
