"""promtool of the two versions of Prometheus that the rules and the dashboards are for."""

import subprocess
from pathlib import Path

import pytest

from tests.charts.harness import Promtool
from tools.charts import program


@pytest.fixture(params=["promtool", pytest.param("promtool-253", marks=pytest.mark.long)])  # built in minutes
def promtool(request: pytest.FixtureRequest) -> Promtool:
    """Return a function that runs promtool in a folder, which must succeed, and returns its output."""

    def run(folder: Path, *arguments: str) -> str:
        command = [program(request.param), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run
