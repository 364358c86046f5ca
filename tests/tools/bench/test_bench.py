"""Tests of the benchmark with the real service, as short as possible."""

import subprocess
import sys

import pytest

from tools.cluster.cache import ROOT


@pytest.mark.long
def test_service_and_no_op_are_measured() -> None:
    arguments = ["--only", "model-service,noop", "--models", "1", "--rounds", "1", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "## 30 features, 100 trees" in done.stdout
    assert "| **model-service, records** |" in done.stdout
    assert "### 1000 rows, 4 callers" in done.stdout
