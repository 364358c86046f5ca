"""The cluster that `make up` left running, for the tests that need one."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.cluster import embedded, kind, node
from tests.cluster.access import Access
from tests.cluster.main_job import MONITORING, NAMESPACE, OBSERVABILITY, SERVICE

# Where the cluster is kind's, there is no embedded one to test. Not collected rather than skipped: a skip looks green.
collect_ignore = [] if os.environ.get("KUBECONFIG") == str(node.KUBECONFIG) else ["test_embedded.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as needing a cluster."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def access() -> Access:
    """The cluster behind KUBECONFIG; without one the tests fail, they are not skipped."""
    kubeconfig = os.environ.get("KUBECONFIG", "")
    assert Path(kubeconfig).is_file(), "KUBECONFIG names no file: run `make e2e`, which starts the cluster first"
    return Access(Path(kubeconfig))


@pytest.fixture(scope="session")
def cluster() -> ModuleType:
    """The kind of cluster that runs: what builds images and brings them to it."""
    return embedded if os.environ.get("KUBECONFIG") == str(node.KUBECONFIG) else kind


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
