"""Installations of the examples, each in a namespace of its own: restricted Pod Security, chart-testing and Helm 3."""

import json
import subprocess
from pathlib import Path

import pytest

from tools.cluster.access import Access
from tools.cluster.cache import ROOT
from tools.cluster.console import run
from tools.cluster.images import APP
from tools.cluster.main_job import image_values
from tools.cluster.programs import clients

CHART = ROOT / "charts" / "model-service"


@pytest.mark.parametrize("case", sorted(CHART.glob("ci/*-values.yaml")), ids=lambda path: path.stem)
def test_case_is_accepted_under_restricted_pod_security(access: Access, case: Path) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(namespace))
    rendered = access.helm("template", "restricted", str(CHART), "--namespace=restricted", f"--values={case}")

    accepted = access.kubectl(
        "apply", "--dry-run=server", "--warnings-as-errors", "--namespace=restricted", "-f", "-", stdin=rendered
    )

    assert "deployment.apps/" in accepted
    assert accepted.count("(server dry run)") == rendered.count("\nkind: ")


def test_ci_values_install_with_ct() -> None:
    values = " ".join(image_values(APP))
    command = ["ct", "install", "--charts", "charts/model-service", "--helm-extra-set-args", values]

    done = subprocess.run(
        [*command, "--helm-extra-args", "--timeout 300s"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert done.stdout.count("Phase:") >= 2


def test_example_installs_with_helm_3(access: Access) -> None:
    helm3 = [clients() / "helm3", "--kubeconfig", access.kubeconfig, "--namespace=helm3"]
    case = CHART / "ci" / "default-values.yaml"
    install = ["install", "example", CHART, f"--values={case}", *image_values(APP), "--create-namespace", "--wait"]
    try:
        run([*helm3, *install, "--timeout=300s"])
        tested = run([*helm3, "test", "example", "--timeout=300s"])
    finally:
        access.kubectl("delete", "namespace", "helm3", "--ignore-not-found")

    assert "Phase:          Succeeded" in tested
