"""Rehearsal of the release workflow in a clone: it succeeds, and a failing test stops it before the build."""

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.cluster.cache import ROOT
from tools.cluster.console import run
from tools.release.pipeline import rehearse
from tools.release.registry import running_registry
from tools.release.signing import cosign

pytestmark = pytest.mark.long  # it pushes all images

PUBLISH = ["release-images", "release-charts", "release-sign", "release-verify"]
RED = "def test_drill() -> None:\n    raise AssertionError('a drill')\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a clone of the current commit."""
    run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"])
    return tmp_path / "clone"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a push to main, with a local registry and a key instead of GitHub's identity."""
    run([cosign(), "generate-key-pair"], cwd=tmp_path, env={**os.environ, "COSIGN_PASSWORD": ""})
    with running_registry(tmp_path) as (address, _):
        pushed = {"GITHUB_REF": "refs/heads/main", "RELEASE_REGISTRY": f"{address}/pipeline"}
        yield {**os.environ, **pushed, "RELEASE_KEY": str(tmp_path / "cosign.key"), "PYTEST_ADDOPTS": "-x"}


def repositories(environment: dict[str, str]) -> list[str]:
    """Return the content of the registry."""
    address = environment["RELEASE_REGISTRY"].partition("/")[0]
    with urllib.request.urlopen(f"http://{address}/v2/_catalog", timeout=10) as answer:
        return list(json.load(answer)["repositories"])


def plant(clone: Path, folder: str, text: str) -> None:
    """Commit a test that runs first in its folder."""
    (clone / folder / "test_a_drill.py").write_text(text)
    run(["git", "-C", clone, "add", "."])
    run(["git", "-C", clone, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "test: a drill"])


def test_green_pipeline_publishes_everything(clone: Path, environment: dict[str, str]) -> None:
    ran = rehearse(clone, environment, ["release-check", *PUBLISH])

    assert [(each.verb, each.code) for each in ran if each.job in ("check", "publish")] == [
        (verb, 0) for verb in ("release-check", *PUBLISH)
    ], ran[-1].said
    images = {f"pipeline/model-service{suffix}" for suffix in ("", "-mlflow", "-training")}
    assert set(repositories(environment)) == images | {"pipeline/charts/mlflow", "pipeline/charts/model-service"}


@pytest.mark.parametrize(("verb", "folder"), [("unit", "tests/app"), ("charts", "tests/charts")])
def test_failing_test_stops_before_the_build(clone: Path, environment: dict[str, str], verb: str, folder: str) -> None:
    plant(clone, folder, RED)

    ran = rehearse(clone, environment, ["release-check", verb, *PUBLISH])
    print(ran[-1].said[-1500:])

    assert [(each.job, each.verb, each.code == 0) for each in ran] == [
        ("check", "release-check", True),
        ("ci", verb, False),
    ]
    assert "AssertionError: a drill" in ran[-1].said
    assert repositories(environment) == []
    assert not (clone / "build").exists()
