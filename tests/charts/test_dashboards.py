"""Tests of the dashboards: what Grafana's sidecar finds, and rules that dashboard-linter does not check.

Tests that are stricter than a rule of the linter have the rule's name. They exclude no panel.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from app import accounts
from app.monitoring import challenger, feedback, following, model_metrics
from app.monitoring.drift import Distributions
from tests.charts.harness import only, rendered
from tools.charts import MLFLOW, MODEL_SERVICE, Object, render

DASHBOARDS = {chart: sorted((chart / "files" / "dashboards").glob("*.json")) for chart in (MODEL_SERVICE, MLFLOW)}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = {"namespace": "Namespace", "job": "Job", "instance": "Instance"}

_METRICS = [
    each
    for module in (accounts, model_metrics, feedback, following, challenger)
    for each in vars(module).values()
    if isinstance(each, Counter | Gauge | Histogram)
]

type Dashboard = dict[str, Any]


@pytest.fixture(params=[path for paths in DASHBOARDS.values() for path in paths], ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Dashboard:
    """Each dashboard in turn."""
    path: Path = request.param
    found: Dashboard = json.loads(path.read_text())
    return found


def panels(dashboard: Dashboard) -> list[Dashboard]:
    """Return the panels without the rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: Dashboard) -> Iterator[str]:
    """Yield the PromQL of every panel and annotation."""
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["expr"]
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield target["expr"]


def without_suffix(name: str) -> str:
    """Return the metric name of a series."""
    return re.sub(r"_(total|bucket|count|sum)$", "", name)


def config_map(**settings: Any) -> Object:
    """Return the ConfigMap with the dashboards."""
    return only(rendered({"monitoring": {"dashboards": {"enabled": True, **settings}}}), "ConfigMap")


def test_absent_by_default() -> None:
    assert not [item for item in rendered() if item["kind"] == "ConfigMap"]


def test_config_map_has_the_label_and_folder_of_the_sidecar() -> None:
    found = config_map()

    assert found["metadata"]["name"] == "demo-model-service-grafana"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Models"}
    assert found["data"] == {path.name: path.read_text() for path in DASHBOARDS[MODEL_SERVICE]}, "byte for byte"


def test_mlflow_chart_ships_its_own_dashboards() -> None:
    found = only(render(MLFLOW, {"monitoring": {"dashboards": {"enabled": True}}}, release="obs"), "ConfigMap")

    assert found["metadata"]["name"] == "obs-mlflow-grafana"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Models"}
    assert found["data"] == {path.name: path.read_text() for path in DASHBOARDS[MLFLOW]}, "byte for byte"
    assert not [item for item in render(MLFLOW) if item["kind"] == "ConfigMap"]


def test_labels_and_namespace_follow_the_values() -> None:
    found = config_map(
        namespace="grafana", labels={"dash": "yes", "grafana_dashboard": None}, annotations={"folder": "ML"}
    )

    assert found["metadata"]["namespace"] == "grafana"
    assert found["metadata"]["labels"]["dash"] == "yes"
    assert "grafana_dashboard" not in found["metadata"]["labels"]
    assert found["metadata"]["annotations"]["folder"] == "ML"


def test_uneditable(dashboard: Dashboard) -> None:
    assert dashboard["editable"] is False


def test_template_datasource_job_instance(dashboard: Dashboard) -> None:
    source, *others = dashboard["templating"]["list"]

    assert (source["name"], source["type"], source["query"], source["label"]) == (
        "datasource", "datasource", "prometheus", "Data source"
    )  # fmt: skip
    versions = {} if dashboard["uid"] == "mlflow-server" else {"version": "Version"}
    own = {"feature": "Feature"} if dashboard["uid"] == "model-drift" else {}
    assert {item["name"]: item["label"] for item in others} == VARIABLES | versions | own
    for item in others:
        assert item["datasource"] == SOURCE
        assert (item["multi"], item["includeAll"], item["allValue"]) == (True, True, ".+")


def test_template_on_time_change_reload(dashboard: Dashboard) -> None:
    assert {item["refresh"] for item in dashboard["templating"]["list"] if item["type"] == "query"} == {2}


def test_panel_datasource_title_description_units(dashboard: Dashboard) -> None:
    titles = [panel["title"] for panel in panels(dashboard)]

    assert len(set(titles)) == len(titles) > 5
    for panel in panels(dashboard):
        assert panel["datasource"] == SOURCE, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_deployments_and_alerts_are_annotated(dashboard: Dashboard) -> None:
    deployments, alerts = dashboard["annotations"]["list"]

    assert (deployments["name"], deployments["enable"], deployments["datasource"]) == ("Deployments", True, SOURCE)
    assert (alerts["name"], alerts["enable"], alerts["datasource"]) == ("Alerts", False, SOURCE)


def test_panels_do_not_overlap(dashboard: Dashboard) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        covered = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & covered, panel["title"]
        cells |= covered


def test_target_job_instance(dashboard: Dashboard) -> None:
    for expression in expressions(dashboard):
        selectors = re.findall(r"([\w:]+)\{(.*?)\}", expression)
        assert selectors
        for metric, selector in selectors:
            ours = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'
            # Series of the kubelet and kube-state-metrics have pod and claim names but no job of ours.
            if metric.startswith(("kubelet_", "container_", "kube_")):
                ours = 'namespace=~"$namespace",p'
                assert '=~"$job' in selector, expression
            if ":" in metric or metric == "ALERTS":  # aggregated over the pods of a release, without an instance
                ours = 'namespace=~"$namespace",job=~"$job"'
            assert selector.startswith(ours), expression


def test_model_metrics_are_filtered_by_the_selected_version() -> None:
    with_a_version = {family.name for family in Distributions().collect()}
    with_a_version |= {next(iter(made.describe())).name for made in _METRICS if "model_version" in made._labelnames}
    for path in DASHBOARDS[MODEL_SERVICE]:
        dashboard = json.loads(path.read_text())
        # Annotations mark every new version, whichever are selected.
        annotations = {annotation["expr"] for annotation in dashboard["annotations"]["list"]}
        for expression in set(expressions(dashboard)) - annotations:
            for metric, selector in re.findall(r"([\w:]+)\{(.*?)\}", expression):
                has_version = metric.startswith("model:") or without_suffix(metric) in with_a_version
                assert ('model_version=~"$version"' in selector) == has_version, f"{metric}: {expression}"


def test_service_and_model_dashboards_have_the_expected_rows() -> None:
    rows = [
        panel["title"]
        for name in ("service", "model")
        for panel in json.loads((MODEL_SERVICE / "files" / "dashboards" / f"{name}.json").read_text())["panels"]
        if panel["type"] == "row"
    ]

    assert rows == [
        "Overview", "Traffic", "Callers", "Latency", "Resources",
        "Overview", "Predictions", "Features", "Quality by feedback labels", "Alias", "Challenger", "Canary",
        "Service level objectives",
    ]  # fmt: skip


def test_target_rate_interval(dashboard: Dashboard) -> None:
    for expression in expressions(dashboard):
        # The monthly error budget does not depend on the selected time range.
        allowed = {"$__rate_interval"} | ({"30d"} if expression.startswith("max(avg_over_time(job:") else set())
        assert set(re.findall(r"\[(.*?)\]", expression)) <= allowed, expression


def test_target_counter_agg(dashboard: Dashboard) -> None:
    for expression in expressions(dashboard):
        for counter in re.findall(r"(\w+)\((\w+(?:_total|_bucket|_count|_sum))\{", expression):
            assert counter[0] in ("rate", "increase"), expression


def test_metrics_exist_in_the_service(dashboard: Dashboard) -> None:
    ours = {metric.name for collected in (Distributions(), *_METRICS) for metric in collected.collect()}
    for expression in expressions(dashboard):
        for name in re.findall(r"\bmodel_\w+(?=\{)", expression):
            assert {name, without_suffix(name)} & ours, name


def test_recorded_series_exist_in_the_rules(dashboard: Dashboard) -> None:
    texts = [path.read_text() for path in (MODEL_SERVICE / "files" / "rules").glob("*.yaml")]
    recorded = {
        rule["record"]
        for text in texts
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    for expression in expressions(dashboard):
        assert set(re.findall(r"\b\w+:[\w:]+(?=\{)", expression)) <= recorded
