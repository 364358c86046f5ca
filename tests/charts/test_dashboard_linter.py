"""Tests that Grafana's dashboard-linter reports only what accepted_dashboard_findings.yaml excludes."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.charts.test_dashboards import DASHBOARDS
from tools.cluster.programs import dashboard_linter

ALL = [path for paths in DASHBOARDS.values() for path in paths]
CONFIGURATION = Path(__file__).with_name("accepted_dashboard_findings.yaml")
_FOUND = re.compile(
    r"Dashboard '(?P<dashboard>.+?)', panel '(?P<panel>.+?)', target idx '\d+' .*: (?P<label>\w+) selector"
)

# Rule, dashboard and panel.
type Place = tuple[str, str, str]


def lint(path: Path, configuration: Path) -> subprocess.CompletedProcess[str]:
    """Run the linter in strict mode, which also fails on warnings."""
    command = [str(dashboard_linter() / "dashboard-linter"), "lint", "--strict", f"--config={configuration}", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def excluded() -> list[Place]:
    rules = yaml.safe_load(CONFIGURATION.read_text())["exclusions"]
    return [(rule, each["dashboard"], each["panel"]) for rule, listed in rules.items() for each in listed["entries"]]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_dashboard_has_no_findings(path: Path) -> None:
    done = lint(path, CONFIGURATION)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Checks that each target uses a valid PromQL query." in done.stdout


def test_linter_detects_a_defect(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text(ALL[0].read_text().replace("$__rate_interval", "5m", 1))

    assert lint(broken, CONFIGURATION).returncode == 1


def test_every_exclusion_is_needed_and_explained(tmp_path: Path) -> None:
    (nothing := tmp_path / "nothing.yaml").write_text("{}")
    found = {
        (f"target-{each['label']}-rule", each["dashboard"], each["panel"])
        for path in ALL
        for each in _FOUND.finditer(lint(path, nothing).stdout)
    }
    rules = yaml.safe_load(CONFIGURATION.read_text())["exclusions"]

    assert all(each["reason"].endswith(".") for listed in rules.values() for each in listed["entries"])
    assert sorted(excluded()) == sorted(found)
