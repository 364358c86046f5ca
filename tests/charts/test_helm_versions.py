"""Tests that Helm 3 and Helm 4 render the same manifests from each example."""

import re
import subprocess
from pathlib import Path

import pytest

from tools.cluster.programs import HELM3_VERSION, HELM_VERSION, clients
from tools.generate.charts import CASES, MLFLOW_CASES


def helm(name: str, *arguments: str) -> str:
    """Return the output of one of the two built Helm versions, whichever is on PATH."""
    command = [str(clients() / name), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def test_both_versions_are_built() -> None:
    versions = [helm(name, "version", "--template", "{{ .Version }}") for name in ("helm", "helm3")]

    assert versions == [f"v{HELM_VERSION}", f"v{HELM3_VERSION}"]


@pytest.mark.parametrize("case", CASES + MLFLOW_CASES, ids=lambda path: path.stem)
def test_manifests_are_identical(case: Path) -> None:
    arguments = ["template", "demo", str(case.parents[1]), "--namespace=models", f"--values={case}"]

    # Helm 4 keeps the blank line at the end of a template, and Helm 3 does not.
    new, old = (
        [text.rstrip() for text in re.split("^---$", helm(name, *arguments), flags=re.M)] for name in ("helm", "helm3")
    )

    assert len(old) > 5
    assert new == old
