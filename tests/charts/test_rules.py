"""The alerts: promtool tests them as a release renders them, and each has a runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.harness import MLFLOW, Values, only, program, render, rendered

UNIT_TESTS = Path(__file__).parent / "rules"
RUNBOOKS = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text()
SELECTOR = 'namespace="models",job="demo-model-service"'


def rule_spec(values: Values | None = None, **settings: Any) -> dict[str, Any]:
    """Return the spec of the PrometheusRule that a release `demo` in namespace `models` renders."""
    rule = only(rendered({**(values or {}), "prometheusRule": {"enabled": True, **settings}}), "PrometheusRule")
    spec: dict[str, Any] = rule["spec"]
    return spec


def rules(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of all groups."""
    return [rule for group in spec["groups"] for rule in group["rules"]]


def alerts(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return an alert of each name."""
    return {rule["alert"]: rule for rule in rules(spec) if "alert" in rule}


def promtool(folder: Path, *arguments: str) -> str:
    """Run promtool of Prometheus 2.53 and of 3 in a folder, and return what the latter printed."""
    said = ""
    for name in ("promtool-253", "promtool"):
        command = [program(name), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{name}: {said}"
    return said


def test_the_rules_are_tested_by_both_generations_of_prometheus(tmp_path: Path) -> None:
    """A range has both its ends in 2.x and only the later one in 3.x: they are no two names of one program."""
    test = {
        "interval": "1m",
        "input_series": [{"series": "a", "values": "1x10"}],
        "promql_expr_test": [
            {"expr": "count_over_time(a[5m])", "eval_time": "9m", "exp_samples": [{"labels": "{}", "value": 5}]}
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    codes = {
        name: subprocess.run(
            [program(name), "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, timeout=60, check=False
        ).returncode
        for name in ("promtool-253", "promtool")
    }

    assert codes == {"promtool-253": 1, "promtool": 0}


def runbooks() -> dict[str, str]:
    """Return the runbooks' texts by the alert that each is for."""
    parts = re.split(r"^## (\w+)$", RUNBOOKS, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_absent_by_default() -> None:
    assert not [item for item in rendered() if item["kind"] == "PrometheusRule"]


@pytest.mark.parametrize("path", sorted(UNIT_TESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_alerts_fire_and_stay_quiet(path: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule_spec()))
    shutil.copy(path, tmp_path)

    assert "SUCCESS" in promtool(tmp_path, "test", "rules", path.name)


def test_each_alert_is_tested_firing_and_quiet() -> None:
    cases = [
        case
        for path in UNIT_TESTS.glob("*.yaml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]

    names = alerts(rule_spec()).keys()
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


@pytest.mark.parametrize("seconds", [0.0005, 0.1, 1, 10])
def test_latency_objective_selects_a_bucket_as_the_service_writes_it(seconds: float, tmp_path: Path) -> None:
    spec = rule_spec({"slo": {"latency": {"thresholdSeconds": seconds}}})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))

    promtool(tmp_path, "check", "rules", "rules.yaml")
    assert set(re.findall(r',le="([^"]+)"', str(spec))) == {str(float(seconds))}


def test_every_selector_names_the_release() -> None:
    for rule in rules(rule_spec()):
        selectors = re.findall(r"\{(.*?)\}", rule["expr"])
        assert selectors or (rule["labels"]["namespace"], rule["labels"]["job"]) == ("models", "demo-model-service"), (
            rule
        )
        assert all(selector.startswith(SELECTOR) for selector in selectors), rule["expr"]


def test_every_placeholder_is_filled_in() -> None:
    assert "$(" not in str(rule_spec())


def test_every_alert_has_severity_texts_and_a_runbook() -> None:
    for rule in alerts(rule_spec()).values():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks.md#{rule['alert'].lower()}")


def test_runbooks_are_for_the_alerts_and_say_what_to_do() -> None:
    mlflow = only(render(MLFLOW, {"prometheusRule": {"enabled": True}}), "PrometheusRule")["spec"]

    assert runbooks().keys() == alerts(rule_spec()).keys() | alerts(mlflow).keys()
    for alert, text in runbooks().items():
        assert re.findall(r"\*\*(Means|Look at|Do)\*\*", text) == ["Means", "Look at", "Do"], alert


def test_thresholds_and_times_are_values() -> None:
    alerts_changed = {"overloaded": {"ratio": 0.5, "for": "1h"}, "restarting": {"restarts": 9}}
    spec = rule_spec({"slo": {"availability": 0.9}}, alerts=alerts_changed, drift={"window": "5m", "minSamples": 60})

    assert alerts(spec)["ModelServiceOverloaded"]["expr"].strip().endswith("> 0.5")
    assert alerts(spec)["ModelServiceOverloaded"]["for"] == "1h"
    assert alerts(spec)["ModelServiceRestarting"]["expr"].endswith(">= 9")
    assert "[5m]" in next(rule["expr"] for rule in rules(spec) if rule.get("record", "").endswith("increase_short"))
    assert alerts(spec)["ModelFeatureMissing"]["expr"].strip().endswith(">= 60")
    assert "> 1 - 0.9\n" in alerts(spec)["ModelServiceErrorBudgetBurn"]["expr"]


def test_foreign_prometheus_selects_it_and_alertmanager_routes_it() -> None:
    settings: Values = {
        "enabled": True,
        "namespace": "monitoring",
        "additionalLabels": {"release": "prometheus"},
        "additionalRuleLabels": {"team": "risk", "severity": "none"},
        "runbookUrl": "https://wiki.example/ml",
    }
    rule = only(rendered({"prometheusRule": settings}), "PrometheusRule")
    down = alerts(rule["spec"])["ModelServiceDown"]

    assert rule["metadata"]["namespace"] == "monitoring"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert SELECTOR in down["expr"], "the selectors name the pods' namespace, not the rule's"
    assert (down["labels"]["team"], down["labels"]["severity"]) == ("risk", "critical")
    assert down["annotations"]["runbook_url"] == "https://wiki.example/ml#modelservicedown"


def test_no_profile_is_missed_where_no_drift_is_counted() -> None:
    left_out = alerts(rule_spec()).keys() - alerts(rule_spec({"drift": {"enabled": False}})).keys()

    assert left_out == {"ModelDriftReferenceMissing"}


def test_times_that_rules_count_in_are_those_of_their_groups() -> None:
    """A sum over recorded rates is one per evaluation; promtool evaluates all groups alike, and would not notice."""
    recorded = {rule["record"]: group for group in rule_spec()["groups"] for rule in group["rules"] if "record" in rule}
    for rule in rules(rule_spec()):
        for seconds, record in re.findall(r"(\d+) \* sum_over_time\(([\w:]+)", rule["expr"]):
            assert recorded[record]["interval"] == {"60": "1m", "30": "30s"}[seconds], rule


def test_alerts_are_left_out_and_groups_added() -> None:
    group = {"name": "mine", "rules": [{"record": "a:b", "expr": "vector(1)"}]}
    spec = rule_spec(disabledAlerts=["ModelVersionSkew", "ModelServiceDown"], extraGroups=[group])

    assert alerts(rule_spec()).keys() - alerts(spec).keys() == {"ModelVersionSkew", "ModelServiceDown"}
    assert spec["groups"][-1] == group
    assert [rule["record"] for rule in rules(rule_spec()) if "record" in rule] == [
        rule["record"] for rule in rules(spec) if "record" in rule
    ][:-1]
