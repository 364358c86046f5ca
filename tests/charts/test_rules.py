"""Tests of the alerts: promtool evaluates the rendered rules, and each alert has a runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.harness import Promtool, only, rendered
from tools.charts import MLFLOW, Values, program, render

UNIT_TESTS = Path(__file__).parent / "rules"
RUNBOOKS = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text()
SELECTOR = 'namespace="models",job="demo-model-service"'
CANARY: Values = {
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "canary": {"enabled": True, "model": {"uri": "file:///models/next"}},
}


def rule_spec(values: Values | None = None, **settings: Any) -> dict[str, Any]:
    """Return the spec of the PrometheusRule that a release `demo` in namespace `models` renders."""
    monitoring = {**(values or {}), "prometheusRule": {"enabled": True, **settings}}
    rule = only(rendered({"monitoring": monitoring}), "PrometheusRule")
    spec: dict[str, Any] = rule["spec"]
    return spec


def canary_spec() -> dict[str, Any]:
    """Return the same of a release with a canary."""
    rule = only(rendered({"monitoring": {"prometheusRule": {"enabled": True}}, **CANARY}), "PrometheusRule")
    spec: dict[str, Any] = rule["spec"]
    return spec


def rules(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of all groups."""
    return [rule for group in spec["groups"] for rule in group["rules"]]


def alerts(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return one rule per alert name."""
    return {rule["alert"]: rule for rule in rules(spec) if "alert" in rule}


@pytest.mark.long
def test_promtool_of_both_prometheus_versions_runs(tmp_path: Path) -> None:
    """A range selector includes both ends in 2.x but only the later one in 3.x, so the two programs differ."""
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
            [program(name), "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, timeout=300, check=False
        ).returncode
        for name in ("promtool-253", "promtool")
    }

    assert codes == {"promtool-253": 1, "promtool": 0}


def runbooks() -> dict[str, str]:
    """Return the runbook text of each alert."""
    parts = re.split(r"^## (\w+)$", RUNBOOKS, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_absent_by_default() -> None:
    assert not [item for item in rendered() if item["kind"] == "PrometheusRule"]


@pytest.mark.parametrize("path", sorted(UNIT_TESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent(promtool: Promtool, path: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(canary_spec() if path.stem == "canary" else rule_spec()))
    shutil.copy(path, tmp_path)

    assert "SUCCESS" in promtool(tmp_path, "test", "rules", path.name)


def test_each_alert_is_tested_firing_and_silent() -> None:
    cases = [
        case
        for path in UNIT_TESTS.glob("*.yaml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]

    names = alerts(canary_spec()).keys()
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


@pytest.mark.parametrize("seconds", [0.0005, 0.1, 1, 10])
def test_latency_objective_selects_a_bucket_of_the_service(promtool: Promtool, seconds: float, tmp_path: Path) -> None:
    spec = rule_spec({"slo": {"latency": {"thresholdSeconds": seconds}}})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))

    promtool(tmp_path, "check", "rules", "rules.yaml")
    assert set(re.findall(r',le="([^"]+)"', str(spec))) == {str(float(seconds))}


@pytest.mark.parametrize("canary", [False, True])
def test_every_selector_names_the_release(canary: bool) -> None:
    names = [SELECTOR]
    if canary:
        names += [
            SELECTOR.replace("-service", "-service-canary"),
            SELECTOR.replace('="demo-model-service', '=~"demo-model-service(-canary)?'),
        ]
    for rule in rules(canary_spec() if canary else rule_spec()):
        selectors = re.findall(r"\{(.*?)\}", rule["expr"])
        assert selectors or (rule["labels"]["namespace"], rule["labels"]["job"]) == ("models", "demo-model-service"), (
            rule
        )
        assert all(selector.startswith(tuple(names)) for selector in selectors), rule["expr"]


def test_every_placeholder_is_replaced() -> None:
    assert "$(" not in str(canary_spec())


def test_canary_gets_every_rule_of_the_release_and_a_comparison() -> None:
    """A canary is a job of its own, so its series and alerts do not mix with those of the served model."""
    without, with_canary = rule_spec(), canary_spec()
    both = 'job=~"demo-model-service(-canary)?"'
    own = [rule for rule in rules(with_canary) if rule.get("alert", "") != "ModelServiceDown"]

    assert [group["name"] for group in with_canary["groups"] if group not in without["groups"]][:2] == [
        "model-service.canary",
        "model-service.canary.alerts",
    ]
    assert "canary" not in str(without)
    for name in ("ModelServiceErrorBudgetBurn", "ModelPredictionDrift", "ModelVersionSkew"):
        assert both in next(rule for rule in own if rule.get("alert") == name)["expr"]
    assert "canary" not in alerts(with_canary)["ModelServiceDown"]["expr"], "a canary alone is not the service"


def test_every_alert_has_severity_annotations_and_runbook() -> None:
    for rule in alerts(canary_spec()).values():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks.md#{rule['alert'].lower()}")


def test_every_alert_has_a_complete_runbook() -> None:
    mlflow = only(render(MLFLOW, {"monitoring": {"prometheusRule": {"enabled": True}}}), "PrometheusRule")["spec"]

    assert runbooks().keys() == alerts(canary_spec()).keys() | alerts(mlflow).keys()
    for alert, text in runbooks().items():
        assert re.findall(r"\*\*(Meaning|Look at|Do)\*\*", text) == ["Meaning", "Look at", "Do"], alert


def test_thresholds_and_durations_are_values() -> None:
    values = {"slo": {"availability": 0.9}, "drift": {"window": "5m", "minSamples": 60}}
    times = {"ModelServiceOverloaded": "1h", "ModelServiceRestarting": "2m"}
    spec = rule_spec(values, thresholds={"overloadedRatio": 0.5}, **{"for": times})

    assert alerts(spec)["ModelServiceOverloaded"]["expr"].strip().endswith("> 0.5")
    assert alerts(spec)["ModelServiceOverloaded"]["for"] == "1h"
    assert alerts(spec)["ModelServiceRestarting"]["for"] == "2m"
    assert alerts(spec)["ModelServiceInvalidInputs"]["for"] == "10m"
    assert "for" not in alerts(rule_spec())["ModelServiceRestarting"]
    assert "[5m]" in next(rule["expr"] for rule in rules(spec) if rule.get("record", "").endswith("increase_short"))
    assert alerts(spec)["ModelFeatureMissing"]["expr"].strip().endswith(">= 60")
    assert "> 1 - 0.9\n" in alerts(spec)["ModelServiceErrorBudgetBurn"]["expr"]


def test_rule_has_labels_for_prometheus_and_alertmanager() -> None:
    place: Values = {"namespace": "monitoring", "labels": {"release": "prometheus"}}
    settings: Values = {
        "enabled": True,
        "additionalRuleLabels": {"team": "risk", "severity": "none"},
        "runbookUrl": "https://wiki.example/ml",
    }
    rule = only(rendered({"monitoring": {**place, "prometheusRule": settings}}), "PrometheusRule")
    down = alerts(rule["spec"])["ModelServiceDown"]

    assert rule["metadata"]["namespace"] == "monitoring"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert SELECTOR in down["expr"], "the selectors name the pods' namespace, not the rule's"
    assert (down["labels"]["team"], down["labels"]["severity"]) == ("risk", "critical")
    assert down["annotations"]["runbook_url"] == "https://wiki.example/ml#modelservicedown"


def test_reference_alert_absent_without_drift() -> None:
    left_out = alerts(rule_spec()).keys() - alerts(rule_spec({"drift": {"maxFeatures": 0}})).keys()

    assert left_out == {"ModelDriftReferenceMissing"}


def test_summed_rates_match_the_group_interval() -> None:
    """A sum over recorded rates depends on the evaluation interval, which promtool sets for all groups alike."""
    recorded = {rule["record"]: group for group in rule_spec()["groups"] for rule in group["rules"] if "record" in rule}
    for rule in rules(rule_spec()):
        for seconds, record in re.findall(r"(\d+) \* sum_over_time\(([\w:]+)", rule["expr"]):
            assert recorded[record]["interval"] == {"60": "1m", "30": "30s"}[seconds], rule


def test_alerts_can_be_disabled_and_groups_added() -> None:
    group = {"name": "mine", "rules": [{"record": "a:b", "expr": "vector(1)"}]}
    spec = rule_spec(disabledAlerts=["ModelVersionSkew", "ModelServiceDown"], extraGroups=[group])

    assert alerts(rule_spec()).keys() - alerts(spec).keys() == {"ModelVersionSkew", "ModelServiceDown"}
    assert spec["groups"][-1] == group
    assert [rule["record"] for rule in rules(rule_spec()) if "record" in rule] == [
        rule["record"] for rule in rules(spec) if "record" in rule
    ][:-1]
