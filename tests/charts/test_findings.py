"""Tests that kube-score and checkov report exactly the findings that accepted_findings.yaml explains."""

from pathlib import Path

import pytest
import yaml

from tests.charts.scanners import findings
from tools.charts import template
from tools.generate.charts import CASES, MLFLOW_CASES

ACCEPTED = Path(__file__).with_name("accepted_findings.yaml")
# A kind that no example uses. It proves in the same run that both programs detect problems.
BAD = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: bad, namespace: models}
spec:
  selector: {matchLabels: {app: bad}}
  template:
    metadata: {labels: {app: bad}}
    spec: {containers: [{name: bad, image: bad:latest, securityContext: {privileged: true}}]}
"""


def explained() -> list[str]:
    """Return the explained findings in file order."""
    return [line for entry in yaml.safe_load(ACCEPTED.read_text()) for line in entry["findings"]]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Findings in all examples and in the bad DaemonSet, from one run because checkov takes seconds to start."""
    folder = tmp_path_factory.mktemp("rendered")
    for case in CASES + MLFLOW_CASES:
        chart = case.parents[1]
        text = template(("demo", str(chart), "--namespace=models", "--values", str(case)), "{}")
        (folder / f"{chart.name}-{case.stem}.yaml").write_text(text)
    (folder / "bad.yaml").write_text(BAD)
    return set(findings(sorted(folder.iterdir())))


@pytest.fixture
def found(lines: set[str]) -> set[str]:
    """Findings in the examples."""
    return {line for line in lines if not line.startswith("DaemonSet: ")}


def test_each_finding_is_explained(found: set[str]) -> None:
    assert sorted(found - set(explained())) == []


def test_each_explanation_is_needed(found: set[str]) -> None:
    assert sorted(set(explained()) - found) == []
    assert len(explained()) == len(set(explained()))


def test_each_entry_gives_a_reason() -> None:
    for entry in yaml.safe_load(ACCEPTED.read_text()):
        assert entry.keys() == {"reason", "findings"}
        assert entry["reason"].endswith("."), entry


def test_both_scanners_detect_a_privileged_container(lines: set[str]) -> None:
    assert "DaemonSet: checkov CKV_K8S_16: Container should not be privileged" in lines
    assert "DaemonSet: kube-score container-security-context-privileged: The container is privileged" in lines
