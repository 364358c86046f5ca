"""Tests that cannot run here: taken out and counted in pytest's last lines. A skip would look green."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

_LINES = pytest.StashKey[list[str]]()
_OUTPUT = "left_out"


def leave_out(config: pytest.Config, items: list[pytest.Item], path: Path, why: str) -> None:
    """Take the tests of a file out of a run.

    Args:
        config: The run's configuration, which stores the line.
        items: The run's tests, changed in place.
        path: The file.
        why: The reason, for the summary.
    """
    tests = [item for item in items if item.path == path]
    if tests:
        config.hook.pytest_deselected(items=tests)
        items[:] = [item for item in items if item not in tests]
        config.stash.setdefault(_LINES, []).append(f"left out {len(tests)} of {path.name}: {why}")


def lines(config: pytest.Config) -> list[str]:
    """Return a line for each file whose tests were left out."""
    return config.stash.get(_LINES, [])


def send(config: pytest.Config) -> None:
    """Send the lines of a worker of pytest-xdist to the process that prints the summary."""
    if hasattr(config, "workeroutput"):
        config.workeroutput[_OUTPUT] = lines(config)


def receive(config: pytest.Config, output: Mapping[str, Any]) -> None:
    """Add the lines of a worker. Each worker collects all tests, so that all send the same lines."""
    known = config.stash.setdefault(_LINES, [])
    known.extend(line for line in output.get(_OUTPUT, []) if line not in known)
