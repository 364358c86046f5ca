"""The release of the drills."""

from collections.abc import Iterator

import pytest

from tests.e2e.drills.drill import NAMESPACE, install_release, wait_until_complete, wait_until_quiet
from tools.cluster.access import Access


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the drills: they need the cluster for themselves."""
    item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def _installed(access: Access) -> Iterator[None]:
    install_release(access)
    yield
    access.kubectl("delete", "namespace", NAMESPACE)


@pytest.fixture(autouse=True)
def release(access: Access, _installed: None) -> Iterator[None]:
    """The release: complete and without an alert before each drill, and as installed after it."""
    wait_until_complete(access)
    wait_until_quiet(access)
    yield
    install_release(access)
