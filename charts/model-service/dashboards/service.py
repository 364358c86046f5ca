"""The dashboard of the service: traffic, errors, latency and pods of the chosen releases."""

import sys

from grafana_foundation_sdk.builders import heatmap, table
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from panels import PODS, RATE, SOURCE, Panel, build, graph, number, quantile, query

PREDICT = f'{PODS},path="/predict"'


def glance() -> list[Panel]:
    """Return what one looks at first."""
    total = f"sum(rate(http_server_requests_total{{{PODS}}}{RATE}))"
    failed = f'sum(rate(http_server_requests_total{{{PODS},status_code=~"5.."}}{RATE}))'
    errors = f"({failed} or {total} * 0) / {total}"
    p99 = quantile(0.99, "http_server_request_duration_seconds", PREDICT)
    different = f"count(count by (model_name, model_version, sha256) (model_info{{{PODS}}}))"
    in_progress = f'http_server_requests_in_progress{{{PODS},method="POST"}}'
    in_use = f"sum({in_progress}) / sum(model_concurrency_limit{{{PODS}}})"
    return [
        number("Requests", "Requests per second, of all paths.", "reqps", total),
        number("Errors", "Share of requests that ended with a 5xx.", "percentunit", errors, 0.001, 0.01),
        number("p99", "99th percentile of /predict, measured in the pod.", "s", p99, 0.25, 1),
        number("Pods", "Pods that can be scraped and have their model.", "none", f"sum(model_info{{{PODS}}})"),
        number(
            "Models", "Different models served at once; more than one outside an update is skew.", "none", different
        ),
        number(
            "In use",
            "Requests being answered, as a share of what the pods answer at once.",
            "percentunit",
            in_use,
            0.7,
            1,
        ),
    ]


def traffic() -> list[Panel]:
    """Return what comes in and what is refused."""
    rows = f"sum by (model_name, model_version) (rate(model_predictions_total{{{PODS}}}{RATE}))"
    refused = f"sum by (reason) (rate(model_errors_total{{{PODS}}}{RATE}))"
    return [
        graph(
            "Requests by status",
            "Requests per second by status code.",
            "reqps",
            query(f"sum by (status_code) (rate(http_server_requests_total{{{PODS}}}{RATE}))", "{{status_code}}"),
        ),
        graph(
            "Requests without a prediction",
            "Requests to /predict per second, by the reason.",
            "reqps",
            query(refused, "{{reason}}"),
        ),
        graph(
            "Rows",
            "Rows predicted per second, by the version that predicted them.",
            "rowsps",
            query(rows, "{{model_name}} {{model_version}}"),
        ),
    ]


def latency() -> list[Panel]:
    """Return how long answers take, and where the time goes."""
    metric, stages = "http_server_request_duration_seconds", "model_inference_duration_seconds"
    quantiles = [query(quantile(share, metric, PREDICT), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]
    cells = query(f"sum by (le) (increase({metric}_bucket{{{PREDICT}}}{RATE}))", "{{le}}")
    distribution = heatmap.Panel().title("Distribution").description("Requests to /predict by how long they took.")
    distribution = distribution.with_target(cells.format(PromQueryFormat.HEATMAP)).calculate(False)
    return [
        graph("Latency", "Percentiles of /predict, measured in the pods.", "s", *quantiles),
        graph(
            "p95 by stage",
            "95th percentile of each stage of a prediction.",
            "s",
            query(quantile(0.95, stages, PODS, "le, stage"), "{{stage}}"),
        ),
        distribution.datasource(SOURCE).unit("s").span(8).height(8),
    ]


def pods() -> list[Panel]:
    """Return what each pod uses, and which model it serves."""
    models_served = query(f"model_info{{{PODS}}}", instant=True).format(PromQueryFormat.TABLE)
    served = table.Panel().title("Models served").description("Each pod with its model, and the run that made that.")
    served = served.datasource(SOURCE).unit("none").with_target(models_served).span(24).height(8)
    hidden = ("Time", "Value", "__name__", "container", "endpoint", "service", "instance", "prometheus")
    for name in hidden:
        served = served.override_by_name(name, [DynamicConfigValue(id_val="custom.hidden", value=True)])
    return [
        graph(
            "Waiting",
            "Requests that wait for a slot, by pod.",
            "none",
            query(f"sum by (pod) (model_requests_waiting{{{PODS}}})", "{{pod}}"),
        ),
        graph(
            "CPU",
            "CPU seconds per second, by pod: 1 is one core.",
            "none",
            query(f"sum by (pod) (rate(process_cpu_seconds_total{{{PODS}}}{RATE}))", "{{pod}}"),
        ),
        graph(
            "Memory",
            "Resident memory, by pod.",
            "bytes",
            query(f"sum by (pod) (process_resident_memory_bytes{{{PODS}}})", "{{pod}}"),
        ),
        served,
    ]


if __name__ == "__main__":
    description = "Traffic, errors, latency and pods of charts/model-service."
    rows = {"At a glance": glance(), "Traffic": traffic(), "Latency": latency(), "Pods": pods()}
    sys.stdout.write(build("Model service", "model-service", description, "model_info", rows))
