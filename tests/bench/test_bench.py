"""The benchmark itself, against the real service: as short as it gets."""

import subprocess
import sys

import pytest

from tests.cluster.cache import ROOT


@pytest.mark.long
def test_the_service_and_the_no_op_are_measured() -> None:
    arguments = ["--only", "model-service,noop", "--models", "1", "--rounds", "1", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "## 30 features, 100 trees" in done.stdout
    assert "| **model-service, records** |" in done.stdout
    assert "### 1000 rows, 4 callers" in done.stdout
