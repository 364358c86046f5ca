"""How the charts are written: one kind per file, prefixed helpers, the same bytes for the same values."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.charts.generated import CASES, MLFLOW_CASES
from tests.charts.harness import CHARTS, MLFLOW, MODEL_SERVICE, OBSERVABILITY, program, template

TEMPLATED = [MODEL_SERVICE, MLFLOW]
# User's objects and refusals: neither has a kind of its own.
WITHOUT_KIND = {"extraobjects.yaml", "validate.yaml"}
LONGEST_TEMPLATE_LINES = {"deployment.yaml": 150, "validate.yaml": 145}


def templates(chart: Path) -> list[Path]:
    """Return the chart's templates that make objects, without those of its subcharts."""
    return [path for path in sorted((chart / "templates").rglob("*.yaml")) if path.name not in WITHOUT_KIND]


@pytest.mark.parametrize("path", [path for chart in TEMPLATED for path in templates(chart)], ids=lambda path: path.name)
def test_template_holds_the_one_kind_it_is_named_by(path: Path) -> None:
    found = re.findall(r"^kind: (\w+)$", path.read_text(), flags=re.MULTILINE)

    # A helm test is a pod named by what it does.
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
def test_templates_depend_on_values_alone(chart: Path) -> None:
    for path in (chart / "templates").rglob("*.*"):
        # Comments and Prometheus text may say the words; only calls count.
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
    # `enabled` of the subchart is read by its parent's condition.
    keys = yaml.safe_load((chart / "values.yaml").read_text()).keys() - {"enabled"}

    unused = [key for key in keys if not re.search(rf'\.Values\.{key}\b|pick .Values[^}}]*"{key}"', texts)]

    assert unused == []


def test_versions_are_equal() -> None:
    project = tomllib.loads((CHARTS.parent / "pyproject.toml").read_text())["project"]["version"]

    for chart in (*TEMPLATED, OBSERVABILITY):
        metadata = yaml.safe_load((chart / "Chart.yaml").read_text())
        assert {metadata["version"], metadata.get("appVersion", project)} == {project}, chart.name


@pytest.mark.parametrize("case", CASES + MLFLOW_CASES, ids=lambda path: path.stem)
def test_case_says_what_it_shows(case: Path) -> None:
    assert case.read_text().startswith("# ")


def test_missing_tool_is_an_error_that_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HELM_DOCS", "/nowhere/helm-docs")

    with pytest.raises(FileNotFoundError, match="helm-docs is not on PATH: install it, or set HELM_DOCS"):
        program("helm-docs")
