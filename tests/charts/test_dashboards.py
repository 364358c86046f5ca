"""The dashboards: what Grafana's sidecar finds, and what grafana/dashboard-linter does not look at.

A check that is stricter than the linter's has the linter's name for it: no panel is left out of it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from app import feedback, metrics
from app.drift import Distributions
from tests.charts.harness import MLFLOW, MODEL_SERVICE, Object, only, render, rendered

DASHBOARDS = {chart: sorted((chart / "files" / "dashboards").glob("*.json")) for chart in (MODEL_SERVICE, MLFLOW)}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = {"namespace": "Namespace", "job": "Job", "instance": "Instance"}

_METRICS = [
    each
    for module in (metrics, feedback)
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
    """Return the panels that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: Dashboard) -> Iterator[str]:
    """Yield the PromQL of every query, of those that mark a time as well."""
    for mark in dashboard["annotations"]["list"]:
        yield mark["expr"]
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield target["expr"]


def without_suffix(name: str) -> str:
    """Return the name of the metric that a series of this name is of."""
    return re.sub(r"_(total|bucket|count|sum)$", "", name)


def config_map(**settings: Any) -> Object:
    """Return the ConfigMap that the switch renders."""
    return only(rendered({"grafanaDashboards": {"enabled": True, **settings}}), "ConfigMap")


def test_absent_by_default() -> None:
    assert not [item for item in rendered() if item["kind"] == "ConfigMap"]


def test_config_map_is_what_the_sidecar_looks_for() -> None:
    found = config_map()

    assert found["metadata"]["name"] == "demo-model-service-grafana"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Models"}
    assert found["data"] == {path.name: path.read_text() for path in DASHBOARDS[MODEL_SERVICE]}, "byte for byte"


def test_mlflow_ships_its_own_in_the_same_way() -> None:
    found = only(render(MLFLOW, {"grafanaDashboards": {"enabled": True}}, release="obs"), "ConfigMap")

    assert found["metadata"]["name"] == "obs-mlflow-grafana"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Models"}
    assert found["data"] == {path.name: path.read_text() for path in DASHBOARDS[MLFLOW]}, "byte for byte"
    assert not [item for item in render(MLFLOW) if item["kind"] == "ConfigMap"]


def test_foreign_sidecar_finds_it() -> None:
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


def test_deploys_are_marked(dashboard: Dashboard) -> None:
    deploys, alerts = dashboard["annotations"]["list"]

    assert (deploys["name"], deploys["enable"], deploys["datasource"]) == ("Deploys", True, SOURCE)
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
            # The kubelet and kube-state-metrics know the names of pods and claims, and not the job.
            if metric.startswith(("kubelet_", "container_", "kube_")):
                ours = 'namespace=~"$namespace",p'
                assert '=~"$job' in selector, expression
            if ":" in metric or metric == "ALERTS":  # recorded over all pods of a release: there is no instance
                ours = 'namespace=~"$namespace",job=~"$job"'
            assert selector.startswith(ours), expression


def test_what_a_model_says_of_itself_is_of_the_chosen_version() -> None:
    with_a_version = {family.name for family in Distributions().collect()}
    with_a_version |= {next(iter(made.describe())).name for made in _METRICS if "model_version" in made._labelnames}
    for path in DASHBOARDS[MODEL_SERVICE]:
        dashboard = json.loads(path.read_text())
        # A new version is marked, whichever are chosen.
        marks = {mark["expr"] for mark in dashboard["annotations"]["list"]}
        for expression in set(expressions(dashboard)) - marks:
            for metric, selector in re.findall(r"([\w:]+)\{(.*?)\}", expression):
                has_one = metric.startswith("model:") or without_suffix(metric) in with_a_version
                assert ('model_version=~"$version"' in selector) == has_one, f"{metric}: {expression}"


def test_both_dashboards_of_a_release_have_the_seven_rows_of_what_is_to_be_seen() -> None:
    rows = [
        panel["title"]
        for name in ("service", "model")
        for panel in json.loads((MODEL_SERVICE / "files" / "dashboards" / f"{name}.json").read_text())["panels"]
        if panel["type"] == "row"
    ]

    assert rows == [
        "At a glance", "Traffic", "Latency", "Resources",
        "At a glance", "Predictions", "Features", "Quality, by labels that came later", "Objectives",
    ]  # fmt: skip


def test_target_rate_interval(dashboard: Dashboard) -> None:
    for expression in expressions(dashboard):
        # A month's budget is a month's, whatever time is shown.
        allowed = {"$__rate_interval"} | ({"30d"} if expression.startswith("max(avg_over_time(job:") else set())
        assert set(re.findall(r"\[(.*?)\]", expression)) <= allowed, expression


def test_target_counter_agg(dashboard: Dashboard) -> None:
    for expression in expressions(dashboard):
        for counter in re.findall(r"(\w+)\((\w+(?:_total|_bucket|_count|_sum))\{", expression):
            assert counter[0] in ("rate", "increase"), expression


def test_metrics_are_the_services_own(dashboard: Dashboard) -> None:
    ours = {metric.name for collected in (Distributions(), *_METRICS) for metric in collected.collect()}
    for expression in expressions(dashboard):
        for name in re.findall(r"\bmodel_\w+(?=\{)", expression):
            assert {name, without_suffix(name)} & ours, name


def test_recorded_series_are_those_of_the_rules(dashboard: Dashboard) -> None:
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
