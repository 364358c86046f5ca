"""Tests of the charts' conventions: one kind per file, prefixed helpers, and reproducible output."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.charts.harness import value_paths
from tools.charts import CHARTS, MLFLOW, MODEL_SERVICE, OBSERVABILITY, program, template
from tools.generate.charts import CASES, MLFLOW_CASES

TEMPLATED = [MODEL_SERVICE, MLFLOW]
# Extra objects, validation and the canary do not have a kind of their own, and a job is a CronJob if it has a schedule.
WITHOUT_KIND = {"canary.yaml", "extraobjects.yaml", "validate.yaml", "job.yaml"}
# What only the MLflow server has. Every other key has the name and place that it has in charts/model-service.
SECTIONS_OF_MLFLOW = ("mlflow.", "s3", "prepare", "server", "auth", "storage", "garbageCollection")
KEYS_OF_MLFLOW = {
    "enabled", "pod.securityContext.fsGroup", "startupProbe.failureThreshold",
    "monitoring.metrics", "monitoring.metrics.enabled",
    "monitoring.serviceMonitor.basicAuth", "monitoring.prometheusRule.thresholds.errorRatio",
    "monitoring.prometheusRule.thresholds.latencySeconds", "monitoring.prometheusRule.thresholds.volumeFreeRatio",
}  # fmt: skip
LONGEST_TEMPLATE_LINES = {
    "deployment.yaml": 160,
    "validate.yaml": 235,
    "trainjob.yaml": 95,
    "job.yaml": 70,
    "cronjob.yaml": 65,
}


def templates(chart: Path) -> list[Path]:
    """Return the templates of a chart that render objects, without those of its subcharts."""
    return [path for path in sorted((chart / "templates").rglob("*.yaml")) if path.name not in WITHOUT_KIND]


@pytest.mark.parametrize("path", [path for chart in TEMPLATED for path in templates(chart)], ids=lambda path: path.name)
def test_template_contains_only_the_kind_in_its_name(path: Path) -> None:
    found = re.findall(r"^kind: (\w+)$", path.read_text(), flags=re.MULTILINE)

    # Files of `helm test` pods have the name of their action.
    expected = "pod" if path.parent.name == "tests" else path.stem
    assert [kind.lower() for kind in found] == [expected]


@pytest.mark.parametrize("chart", TEMPLATED, ids=lambda chart: chart.name)
def test_templates_stay_small(chart: Path) -> None:
    for path in (chart / "templates").rglob("*.yaml"):
        assert len(path.read_text().splitlines()) <= LONGEST_TEMPLATE_LINES.get(path.name, 60), path.name


@pytest.mark.parametrize("chart", TEMPLATED, ids=lambda chart: chart.name)
def test_helpers_are_few_prefixed_and_used(chart: Path) -> None:
    helpers = re.findall(r'define "([^"]+)"', (chart / "templates" / "_helpers.tpl").read_text())
    texts = "".join(path.read_text() for path in (chart / "templates").rglob("*.*"))

    assert len(helpers) <= 8
    for helper in helpers:
        assert helper.startswith(f"{chart.name}.")
        assert f'include "{helper}"' in texts, f"{helper} is not used"


@pytest.mark.parametrize("chart", TEMPLATED, ids=lambda chart: chart.name)
def test_templates_depend_only_on_values(chart: Path) -> None:
    for path in (chart / "templates").rglob("*.*"):
        if path.name == "_scaling.tpl":  # the number of pods that run: docs/how-to/autoscaling.md
            continue
        # Only calls count: comments and PromQL may contain these words.
        calls = re.findall(r"\b(rand\w+|now|lookup|uuidv4|genSignedCert|genCA)\s", path.read_text())
        assert not calls, f"{path.name} calls {calls}"


@pytest.mark.parametrize("case", CASES + MLFLOW_CASES, ids=lambda path: path.stem)
def test_two_renders_are_equal(case: Path) -> None:
    arguments = ("demo", str(case.parents[1]), "--values", str(case))

    first = template.__wrapped__(arguments, "{}")
    second = template.__wrapped__(arguments, "{}")

    assert first == second


@pytest.mark.parametrize("chart", TEMPLATED, ids=lambda chart: chart.name)
def test_every_value_is_used(chart: Path) -> None:
    texts = "".join(path.read_text() for path in (chart / "templates").rglob("*.*"))
    # Only the condition in the parent chart reads `enabled` of a subchart.
    keys = yaml.safe_load((chart / "values.yaml").read_text()).keys() - {"enabled"}

    unused = [key for key in keys if not re.search(rf'\.Values\.{key}\b|(pick .Values|list)[^}}]*"{key}"', texts)]

    assert unused == []


def test_charts_share_one_vocabulary() -> None:
    service, mlflow = (
        list(value_paths(yaml.safe_load((chart / "values.yaml").read_text()))) for chart in (MODEL_SERVICE, MLFLOW)
    )

    own = {path for path in mlflow if path not in service and not path.startswith(SECTIONS_OF_MLFLOW)}

    assert own == KEYS_OF_MLFLOW
    assert [path for path in mlflow if path in service] == [path for path in service if path in mlflow]


def test_versions_are_equal() -> None:
    project = tomllib.loads((CHARTS.parent / "pyproject.toml").read_text())["project"]["version"]

    for chart in (*TEMPLATED, OBSERVABILITY):
        metadata = yaml.safe_load((chart / "Chart.yaml").read_text())
        assert {metadata["version"], metadata.get("appVersion", project)} == {project}, chart.name


@pytest.mark.parametrize("case", CASES + MLFLOW_CASES, ids=lambda path: path.stem)
def test_case_begins_with_a_comment(case: Path) -> None:
    assert case.read_text().startswith("# ")


def test_missing_program_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HELM_DOCS", "/nowhere/helm-docs")

    with pytest.raises(FileNotFoundError, match="helm-docs is not on PATH: install it, or set HELM_DOCS"):
        program("helm-docs")
