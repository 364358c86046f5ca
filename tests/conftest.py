"""What needs the real kube-prometheus-stack is left out and counted where its package is not there."""

from pathlib import Path

import pytest

from tests.charts.umbrella import stack_package
from tests.left_out import leave_out, lines

NEED_STACK = ("charts/test_stack.py", "e2e/test_stack.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs the package."""
    if stack_package() is None:
        for name in NEED_STACK:
            why = "for the real kube-prometheus-stack only: KPS_CHART does not name its package"
            leave_out(config, items, Path(__file__).parent / name, why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, here and by other folders."""
    for line in lines(config):
        terminalreporter.write_line(line, yellow=True)
