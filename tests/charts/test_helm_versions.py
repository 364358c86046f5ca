"""Helm 3 and Helm 4 make the same manifests of each example."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.charts.generated import CASES, MLFLOW_CASES
from tests.cluster.programs import HELM3_VERSION, HELM_VERSION, cluster_programs


def helm(name: str, *arguments: str) -> str:
    """Return what one of the two built Helms prints, whichever Helm is on PATH."""
    command = [str(cluster_programs() / name), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_both_are_there() -> None:
    versions = [helm(name, "version", "--template", "{{ .Version }}") for name in ("helm", "helm3")]

    assert versions == [f"v{HELM_VERSION}", f"v{HELM3_VERSION}"]


@pytest.mark.parametrize("case", CASES + MLFLOW_CASES, ids=lambda path: path.stem)
def test_manifests_are_the_same_bytes(case: Path) -> None:
    arguments = ["template", "demo", str(case.parents[1]), "--namespace=models", f"--values={case}"]

    # Between two manifests Helm 4 leaves the blank line in which a template ends; Helm 3 does not.
    new, old = (
        [text.rstrip() for text in re.split("^---$", helm(name, *arguments), flags=re.M)] for name in ("helm", "helm3")
    )

    assert len(old) > 5
    assert new == old
