"""Conformance of the service with its /openapi.json, tested by schemathesis for several kinds of models.

All checks of schemathesis are enabled, over real connections to the process that runs in the image.
"""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.app.harness import ROOT, running_service
from tests.app.kinds import KINDS

MOST_ROWS = 20  # schemathesis exceeds the limit by one row, and generating a thousand rows takes seconds


@pytest.fixture(scope="module", params=["multiclass", "categorical", "optional", "odd names"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("schemathesis")
    KINDS[request.param].save(folder / "model")
    with running_service((folder / "model").as_uri(), folder, MODEL_SERVICE_MAX_ROWS=str(MOST_ROWS)) as here:
        yield here.address


def test_schemathesis_finds_nothing(address: str) -> None:
    assert_nothing_found(address, "--max-examples", "30", "--generation-deterministic")


@pytest.mark.long
def test_schemathesis_finds_nothing_for_long(address: str) -> None:
    assert_nothing_found(address, "--max-examples", "2000")


def assert_nothing_found(address: str, *options: str) -> None:
    config = ROOT / "tests/app/schemathesis.toml"
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{address}/openapi.json"]
    always = ["--checks", "all", "--continue-on-failure", "--no-color"]

    found = subprocess.run([*program, *always, *options], cwd=ROOT, capture_output=True, text=True)

    assert found.returncode == 0, found.stdout + found.stderr
    assert "No issues found" in found.stdout
