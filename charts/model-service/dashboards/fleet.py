"""The dashboard of the fleet: every release of charts/model-service that the Prometheus scrapes, a line for each."""

import sys
from collections.abc import Sequence

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from panels import (
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
# What is listed of a release: the column's name, its unit and its query.
COLUMNS = (
    ("pods", "none", PODS_OF),
    ("models", "none", MODELS_OF),
    ("alerts", "none", FIRING),
    ("requests", "reqps", TOTAL),
    ("errors", "percentunit", ERRORS),
    ("p99", "s", P99),
    ("prediction drift", "none", PREDICTION),
    ("drift that matters", "none", WEIGHTED),
)


def glance() -> list[Panel]:
    """Return how many there are, and how they are together."""
    return [
        number("Releases", "Releases that have a pod with a model.", "none", f"count({PODS_OF})"),
        number("Pods", "Pods that can be scraped and have their model.", "none", f"sum({PODS_OF})"),
        number("Alerts", "Alerts that fire.", "none", f"sum({FIRING})", 1, 5),
        number("Requests", "Requests per second, of all releases.", "reqps", f"sum({TOTAL})"),
        number(
            "Worst errors", "Share of 5xx in the release that has most.", "percentunit", f"max({ERRORS})", 0.001, 0.01
        ),
        number(
            "Worst drift", "PSI of the predictions that moved most.", "none", f"max({PREDICTION})", 0.1, 0.2
        ).decimals(2),
    ]


def releases() -> list[Panel]:
    """Return a line for each release, which leads to its own dashboard."""
    listed = table.Panel().title("All releases").unit("none").span(24).height(10).datasource(SOURCE)
    listed = listed.description("Each release; its name leads to its dashboard.")
    for letter, (_, _, expression) in zip("ABCDEFGH", COLUMNS, strict=True):
        listed = listed.with_target(query(expression, instant=True).format(PromQueryFormat.TABLE).ref_id(letter))
    names = {f"Value #{letter}": name for letter, (name, _, _) in zip("ABCDEFGH", COLUMNS, strict=True)}
    organized = {"excludeByName": {"Time": True}, "renameByName": names}
    for transform in (
        DataTransformerConfig(id_val="merge", options={}),  # by namespace and job: one name may be in two namespaces
        DataTransformerConfig(id_val="organize", options=organized),
    ):
        listed = listed.with_transformation(transform)
    for name, unit, _ in COLUMNS:
        listed = listed.override_by_name(name, [DynamicConfigValue(id_val="unit", value=unit)])
    url = "/d/model-drift?var-namespace=${__data.fields.namespace}&var-job=${__data.fields.job}"
    link = {"title": "Model", "url": url, "targetBlank": False}
    return [listed.override_by_name("job", [DynamicConfigValue(id_val="links", value=[link])])]


def course() -> list[Panel]:
    """Return how it went, a line for each release."""
    budget = f"(1 - max {BY} (job:slo_availability:ratio{{{RELEASES}}}))"
    burn = f"max {BY} (job:http_server_errors:ratio_rate1h{{{RELEASES}}}) / {budget}"
    feature = f'max {BY} (model:distribution_psi:short{{{RECORDED},role="feature"}})'
    oldest = f"time() - min {BY} (model_trained_timestamp_seconds{{{MODELS}}})"
    shown: Sequence[tuple[str, str, str, str]] = (
        ("Requests by release", "Requests per second.", "reqps", TOTAL),
        ("Errors by release", "Share of requests that ended with a 5xx.", "percentunit", ERRORS),
        ("p99 by release", "99th percentile of /predict.", "s", P99),
        ("Error budget burn by release", "Over 1 h; 1 spends the month's budget in a month.", "none", burn),
        ("Drift by release", "PSI of the predictions; above 0.2 they have moved.", "none", PREDICTION),
        ("Worst feature by release", "PSI of the feature that moved most.", "none", feature),
        ("Models by release", "Different models at once; more than one outside an update is skew.", "none", MODELS_OF),
        ("Alerts by release", "Alerts that fire.", "none", FIRING),
        ("Model age by release", "Since the oldest model that is served was trained.", "s", oldest),
    )
    return [graph(title, what, unit, query(expression, NAMED)) for title, what, unit, expression in shown]


if __name__ == "__main__":
    description = "Every release of charts/model-service, side by side."
    rows = {"At a glance": glance(), "Releases": releases(), "Course": course()}
    sys.stdout.write(build("Models", "model-fleet", description, "model_info", rows, VERSIONS))
