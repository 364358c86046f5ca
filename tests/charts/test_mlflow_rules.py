"""Tests of the MLflow alerts: promtool evaluates the rendered rules, and each alert has a runbook."""

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.charts.harness import Promtool, only
from tests.charts.test_rules import UNIT_TESTS, alerts, runbooks
from tools.charts import MLFLOW, render

PROMTOOL_TEST = UNIT_TESTS / "mlflow" / "server.yaml"


def rule_spec(**settings: Any) -> dict[str, Any]:
    """Return the spec of the PrometheusRule that a release `obs` in namespace `monitoring` renders."""
    values = {"monitoring": {"prometheusRule": {"enabled": True, **settings}}}
    spec: dict[str, Any] = only(render(MLFLOW, values, release="obs", namespace="monitoring"), "PrometheusRule")["spec"]
    return spec


def test_absent_by_default() -> None:
    assert not [item for item in render(MLFLOW) if item["kind"] == "PrometheusRule"]


def test_alerts_fire_and_stay_silent(promtool: Promtool, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule_spec()))
    shutil.copy(PROMTOOL_TEST, tmp_path)

    assert "SUCCESS" in promtool(tmp_path, "test", "rules", PROMTOOL_TEST.name)


def test_each_alert_is_tested_firing_and_silent() -> None:
    cases = [case for test in yaml.safe_load(PROMTOOL_TEST.read_text())["tests"] for case in test["alert_rule_test"]]

    names = alerts(rule_spec()).keys()
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_every_selector_names_the_release() -> None:
    ours = ('namespace="monitoring",job="obs-mlflow"', 'namespace="monitoring",persistentvolumeclaim="obs-mlflow"')
    for rule in alerts(rule_spec()).values():
        selectors = re.findall(r"\{(.*?)\}", rule["expr"])
        assert selectors, rule
        assert all(selector.startswith(ours) for selector in selectors), rule["expr"]


def test_every_alert_has_severity_annotations_and_runbook() -> None:
    for name, rule in alerts(rule_spec()).items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks.md#{name.lower()}")
        assert name in runbooks()


def test_thresholds_and_durations_are_values() -> None:
    found = alerts(
        rule_spec(
            **{"for": {"MLflowDown": "1m"}},
            thresholds={"errorRatio": 0.5, "latencySeconds": 7, "volumeFreeRatio": 0.25},
        )
    )

    assert found["MLflowDown"]["for"] == "1m"
    assert "> 0.5\n" in found["MLflowErrors"]["expr"]
    assert "> 7\n" in found["MLflowSlow"]["expr"]
    assert found["MLflowVolumeFull"]["expr"].strip().endswith("< 0.25")


def test_volume_alert_uses_the_existing_claim() -> None:
    values = {"monitoring": {"prometheusRule": {"enabled": True}}, "storage": {"existingClaim": "shared"}}

    spec = only(render(MLFLOW, values), "PrometheusRule")["spec"]

    assert 'persistentvolumeclaim="shared"' in alerts(spec)["MLflowVolumeFull"]["expr"]


def test_rule_has_labels_for_prometheus_and_alertmanager() -> None:
    settings = {
        "enabled": True,
        "additionalRuleLabels": {"team": "platform", "severity": "none"},
        "runbookUrl": "https://wiki.example/ml",
    }
    place = {"namespace": "rules", "labels": {"release": "prometheus"}}
    rule = only(render(MLFLOW, {"monitoring": {**place, "prometheusRule": settings}}), "PrometheusRule")
    down = alerts(rule["spec"])["MLflowDown"]

    assert (rule["metadata"]["namespace"], rule["metadata"]["labels"]["release"]) == ("rules", "prometheus")
    assert 'namespace="models"' in down["expr"], "the selectors name the pods' namespace, not the rule's"
    assert (down["labels"]["team"], down["labels"]["severity"]) == ("platform", "critical")
    assert down["annotations"]["runbook_url"] == "https://wiki.example/ml#mlflowdown"


def test_alerts_can_be_disabled_and_groups_added() -> None:
    group = {"name": "mine", "rules": [{"record": "a:b", "expr": "vector(1)"}]}
    spec = rule_spec(disabledAlerts=["MLflowSlow"], extraGroups=[group])

    assert alerts(rule_spec()).keys() - alerts(spec).keys() == {"MLflowSlow"}
    assert spec["groups"][-1] == group
