"""Settings of all tests: the same generated examples in each run, and what is left out and counted.

What needs the real kube-prometheus-stack is left out where its package is not there.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.left_out import leave_out, lines, receive, send
from tools.cluster.umbrella import stack_package

# A test must not fail because of chance or of a busy machine. Long tests choose random examples themselves.
settings.register_profile(
    "same", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")

NEED_STACK = ("charts/test_stack.py", "e2e/test_stack.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs the package."""
    if stack_package() is None:
        for name in NEED_STACK:
            why = "they need the package of kube-prometheus-stack, which KPS_CHART names"
            leave_out(config, items, Path(__file__).parent / name, why)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker of pytest-xdist left out to the process that reports it."""
    send(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive what a worker left out."""
    receive(node.config, getattr(node, "workeroutput", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the tests that this file and other folders left out."""
    for line in lines(config):
        terminalreporter.write_line(line, yellow=True)
