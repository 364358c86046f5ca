"""Tests of the rules and dashboards with a real operator and Prometheus."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.charts import MODEL_SERVICE
from tools.cluster.access import Access, http, promql
from tools.cluster.console import Failure, wait_for
from tools.cluster.main_job import NAMESPACE, RELEASE
from tools.generate.drift_report import main as report

FULLNAME = f"{RELEASE}-model-service"
DASHBOARDS = sorted((MODEL_SERVICE / "files" / "dashboards").glob("*.json"))
# Values of the Grafana variables: all namespaces and pods, and a rate over four scrapes.
VARIABLES = dict.fromkeys(("$namespace", "$instance", "$version", "$feature"), ".+")
# Rows about features that these releases do not use. Tests of the features read their metrics.
UNUSED_ROWS = {"Alias", "Challenger", "Canary"}
VARIABLES |= {"$job": FULLNAME, "$__rate_interval": "1m"}


def _groups(prometheus: str) -> list[dict[str, Any]]:
    """Return the rule groups that Prometheus has loaded from the PrometheusRule."""
    groups = http(f"{prometheus}/api/v1/rules")["data"]["groups"]
    return [group for group in groups if f"{NAMESPACE}-{FULLNAME}-" in group["file"]]


def test_prometheus_evaluates_every_rule(prometheus: str) -> None:
    def evaluated() -> list[dict[str, Any]]:
        groups = _groups(prometheus)
        return groups if groups and all(rule["health"] == "ok" for group in groups for rule in group["rules"]) else []

    wait_for("healthy rules", evaluated, timeout_seconds=300, remedy="Does the operator reject the PrometheusRule?")
    rules = [rule for group in _groups(prometheus) for rule in group["rules"]]

    names = {
        group["name"]
        for path in (MODEL_SERVICE / "files" / "rules").glob("*.yaml")
        if path.stem != "canary"  # the release has none
        for group in yaml.safe_load(path.read_text())["groups"]
    }
    assert {group["name"] for group in _groups(prometheus)} == names
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    assert not [rule for rule in rules if rule.get("lastError")]


def test_no_critical_alert_fires_when_healthy(prometheus: str) -> None:
    rules = [rule for group in _groups(prometheus) for rule in group["rules"] if rule["type"] == "alerting"]

    assert rules
    firing = [rule["name"] for rule in rules if rule["state"] == "firing" and rule["labels"]["severity"] == "critical"]
    assert firing == []


def test_dashboards_have_the_label_of_the_sidecar(access: Access) -> None:
    found = access.get_all("configmap", "grafana_dashboard=1", NAMESPACE)

    assert [item["metadata"]["name"] for item in found] == [f"{FULLNAME}-grafana"]
    assert found[0]["data"].keys() == {path.name for path in DASHBOARDS}


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a dashboard without those of unused rows."""
    row = ""
    for panel in panels:
        if panel["type"] == "row":
            row = panel["title"]
        if row not in UNUSED_ROWS:
            yield panel


def assert_each_query_has_data(
    prometheus: str, path: Path, variables: dict[str, str], ask: Callable[[], object]
) -> None:
    """Wait until every query of a dashboard returns data.

    Args:
        prometheus: URL of Prometheus.
        path: File of the dashboard.
        variables: Values of the Grafana variables, by name with `$`.
        ask: Function that sends requests. It is called repeatedly.
    """
    queries = {
        f"{panel['title']}: {target['expr']}": target["expr"]
        for panel in _panels(json.loads(path.read_text())["panels"])
        for target in panel.get("targets", [])
    }
    for name, query in queries.items():
        for variable, value in variables.items():
            query = query.replace(variable, value)
        queries[name] = query
    empty = set(queries)

    def filled() -> bool:
        ask()
        # A quantile without samples is NaN, which a reader sees as missing data.
        empty.difference_update(
            name for name in set(empty) if any(s["value"][1] != "NaN" for s in promql(prometheus, queries[name]))
        )
        time.sleep(1)
        return not empty

    assert len(queries) > 10
    try:
        wait_for("data in every panel", filled, timeout_seconds=300, remedy="")
    finally:
        assert sorted(empty) == []


@pytest.mark.parametrize(
    "path",
    DASHBOARDS,
    ids=lambda path: path.stem,
)
def test_every_dashboard_query_returns_data(service: str, prometheus: str, path: Path) -> None:
    example = http(f"{service}/model")["input_example"]
    classes = http(f"{service}/model")["classes"]
    many = {"columns": example["columns"], "data": example["data"] * 40}

    def ask() -> None:
        """Predict, and send labels of both classes as feedback."""
        tokens = http(f"{service}/predict", many)["tokens"]
        labels = [{"token": token, "label": classes[i % 2]} for i, token in enumerate(tokens)]
        http(f"{service}/feedback", {"labels": labels})
        with suppress(Failure):  # an invalid label, so that rejections are counted
            http(f"{service}/feedback", {"labels": [{"token": tokens[0], "label": "neither"}]})

    assert_each_query_has_data(prometheus, path, VARIABLES, ask)


def test_drift_report_is_drawn_from_prometheus(
    service: str, prometheus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = http(f"{service}/model")["input_example"]
    many = {"columns": example["columns"], "data": example["data"] * 40}
    picture = tmp_path / "drift.png"

    def drawn() -> bool:
        http(f"{service}/predict", many)
        return report([f"--prometheus={prometheus}", f"--picture={picture}"]) == 0

    assert report(["nowhere", f"--prometheus={prometheus}", f"--picture={picture}"]) == 1
    assert "Namespace nowhere has drift of 0 models" in capsys.readouterr().out
    wait_for("a picture", drawn, timeout_seconds=300, remedy="")
    assert picture.read_bytes().startswith(b"\x89PNG")
