"""Dashboard of the fleet: every release of charts/model-service that Prometheus scrapes, one row each."""

import sys
from collections.abc import Sequence

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.generate.panels import (
    MODELS,
    PODS,
    RATE,
    RECORDED,
    RELEASES,
    SOURCE,
    VERSIONS,
    Panel,
    build,
    graph,
    number,
    quantile,
    query,
)

BY = "by (namespace, job)"
NAMED = "{{namespace}}/{{job}}"
TOTAL = f"sum {BY} (rate(http_server_requests_total{{{PODS}}}{RATE}))"
FAILED = f'sum {BY} (rate(http_server_requests_total{{{PODS},status_code=~"5.."}}{RATE}))'
ERRORS = f"({FAILED} or {TOTAL} * 0) / {TOTAL}"
P99 = quantile(0.99, "http_server_request_duration_seconds", f'{PODS},path="/predict"', "namespace, job, le")
PODS_OF = f"sum {BY} (model_info{{{MODELS}}})"
MODELS_OF = f"count {BY} (count by (namespace, job, model_version, sha256) (model_info{{{MODELS}}}))"
FIRING = f'count {BY} (ALERTS{{{RELEASES},alertstate="firing"}}) or {PODS_OF} * 0'
PREDICTION = f'max {BY} (model:distribution_psi:short{{{RECORDED},role="prediction"}})'
WEIGHTED = f"max {BY} (model:feature_psi_importance_weighted:short{{{RECORDED}}})"
# Columns of the table of releases: title, unit and query.
COLUMNS = (
    ("pods", "none", PODS_OF),
    ("models", "none", MODELS_OF),
    ("alerts", "none", FIRING),
    ("request rate", "reqps", TOTAL),
    ("error ratio", "percentunit", ERRORS),
    ("p99 latency", "s", P99),
    ("prediction drift", "none", PREDICTION),
    ("weighted drift", "none", WEIGHTED),
)


def glance() -> list[Panel]:
    """Return the totals of all releases."""
    return [
        number("Releases", "Releases with at least one pod that has loaded its model.", "none", f"count({PODS_OF})"),
        number("Pods", "Pods that Prometheus can scrape and that have loaded their model.", "none", f"sum({PODS_OF})"),
        number("Firing alerts", "Alerts that currently fire.", "none", f"sum({FIRING})", 1, 5),
        number("Request rate", "Requests per second of all releases.", "reqps", f"sum({TOTAL})"),
        number(
            "Highest error ratio",
            "Ratio of requests with a 5xx status, in the release where it is highest.",
            "percentunit",
            f"max({ERRORS})",
            0.001,
            0.01,
        ),
        number(
            "Highest drift", "PSI of the predictions that drifted most.", "none", f"max({PREDICTION})", 0.1, 0.2
        ).decimals(2),
    ]


def releases() -> list[Panel]:
    """Return the table of releases, which links to their dashboards."""
    listed = table.Panel().title("All releases").unit("none").span(24).height(10).datasource(SOURCE)
    listed = listed.description("All releases. The name of a release links to its dashboard.")
    for letter, (_, _, expression) in zip("ABCDEFGH", COLUMNS, strict=True):
        listed = listed.with_target(query(expression, instant=True).format(PromQueryFormat.TABLE).ref_id(letter))
    names = {f"Value #{letter}": name for letter, (name, _, _) in zip("ABCDEFGH", COLUMNS, strict=True)}
    organized = {"excludeByName": {"Time": True}, "renameByName": names}
    for transform in (
        DataTransformerConfig(
            id_val="merge", options={}
        ),  # by namespace and job, because a name may exist in two namespaces
        DataTransformerConfig(id_val="organize", options=organized),
    ):
        listed = listed.with_transformation(transform)
    for name, unit, _ in COLUMNS:
        listed = listed.override_by_name(name, [DynamicConfigValue(id_val="unit", value=unit)])
    url = "/d/model-drift?var-namespace=${__data.fields.namespace}&var-job=${__data.fields.job}"
    link = {"title": "Model", "url": url, "targetBlank": False}
    return [listed.override_by_name("job", [DynamicConfigValue(id_val="links", value=[link])])]


def history() -> list[Panel]:
    """Return the history of each release, one line each."""
    budget = f"(1 - max {BY} (job:slo_availability:ratio{{{RELEASES}}}))"
    burn = f"max {BY} (job:http_server_errors:ratio_rate1h{{{RELEASES}}}) / {budget}"
    feature = f'max {BY} (model:distribution_psi:short{{{RECORDED},role="feature"}})'
    oldest = f"time() - min {BY} (model_trained_timestamp_seconds{{{MODELS}}})"
    shown: Sequence[tuple[str, str, str, str]] = (
        ("Request rate by release", "Requests per second.", "reqps", TOTAL),
        ("Error ratio by release", "Ratio of requests with a 5xx status.", "percentunit", ERRORS),
        ("p99 latency by release", "99th percentile of the latency of /predict.", "s", P99),
        (
            "Burn rate by release",
            "Error budget burn rate over 1 h. 1 spends the budget in exactly a month.",
            "none",
            burn,
        ),
        ("Prediction drift by release", "PSI of the predictions. Above 0.2 they have drifted.", "none", PREDICTION),
        ("Feature drift by release", "PSI of the feature that drifted most.", "none", feature),
        (
            "Models by release",
            "Models served at once. More than one outside a rollout is version skew.",
            "none",
            MODELS_OF,
        ),
        ("Firing alerts by release", "Alerts that currently fire.", "none", FIRING),
        ("Model age by release", "Time since the training of the oldest served model.", "s", oldest),
    )
    return [graph(title, what, unit, query(expression, NAMED)) for title, what, unit, expression in shown]


if __name__ == "__main__":
    description = "Every release of charts/model-service, side by side."
    rows = {"Overview": glance(), "Releases": releases(), "History": history()}
    sys.stdout.write(build("Models", "model-fleet", description, "model_info", rows, VERSIONS))
