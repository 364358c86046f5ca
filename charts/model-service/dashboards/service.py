"""Dashboard of the service: traffic, errors, latency and resources of the selected releases.

Series of limits and throttling have no job of ours. They are selected by pod names, which begin with the job.
"""

import sys

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.generate.panels import (
    MODELS,
    OF_POD,
    PODS,
    RATE,
    RELEASES,
    SOURCE,
    VERSIONS,
    Panel,
    build,
    cells,
    graph,
    number,
    quantile,
    query,
)

PREDICT = f'{PODS},path="/predict"'


def glance() -> list[Panel]:
    """Return the overview."""
    total = f"sum(rate(http_server_requests_total{{{PODS}}}{RATE}))"
    failed = f'sum(rate(http_server_requests_total{{{PODS},status_code=~"5.."}}{RATE}))'
    errors = f"({failed} or {total} * 0) / {total}"
    p99 = quantile(0.99, "http_server_request_duration_seconds", PREDICT)
    different = f"count(count by (model_name, model_version, sha256) (model_info{{{MODELS}}}))"
    in_progress = f'http_server_requests_in_progress{{{PODS},method="POST"}}'
    in_use = f"sum({in_progress}) / sum(model_concurrency_limit{{{PODS}}})"
    mean = "avg_over_time(job:http_server_{}:rate5m{{{}}}[30d])".format
    budget = f"(1 - job:slo_availability:ratio{{{RELEASES}}})"
    spent = f"max({mean('errors', RELEASES)} / {mean('requests', RELEASES)} / {budget})"
    late = f"max(job:http_server_slow:ratio_rate1h{{{RELEASES}}})"
    shown = [
        number("Request rate", "Requests per second on all paths.", "reqps", total),
        number("Error ratio", "Ratio of requests with a 5xx status.", "percentunit", errors, 0.001, 0.01),
        number("p99 latency", "99th percentile of the latency of /predict.", "s", p99, 0.25, 1),
        number(
            "Pods",
            "Pods that Prometheus can scrape and that have loaded their model.",
            "none",
            f"sum(model_info{{{MODELS}}})",
        ),
        number("Models", "Models served at once. More than one outside a rollout is version skew.", "none", different),
        number(
            "Concurrency used",
            "Requests in progress as a ratio of the concurrency limit of all pods.",
            "percentunit",
            in_use,
            0.7,
            1,
        ),
        number(
            "Error budget spent",
            "Ratio of the error budget spent in the last 30 days.",
            "percentunit",
            spent,
            0.75,
            1,
            instant=True,
        ),
        number(
            "Slow predictions",
            "Ratio of the predictions in the last hour that took longer than the latency objective.",
            "percentunit",
            late,
        ),
    ]
    return [panel.span(3) for panel in shown]


def traffic() -> list[Panel]:
    """Return requests, rejections and queues."""
    rows = f"sum by (model_name, model_version) (rate(model_predictions_total{{{MODELS}}}{RATE}))"
    refused = f"sum by (reason) (rate(model_errors_total{{{MODELS}}}{RATE}))"
    return [
        graph(
            "Request rate by status",
            "Requests per second by status code.",
            "reqps",
            query(f"sum by (status_code) (rate(http_server_requests_total{{{PODS}}}{RATE}))", "{{status_code}}"),
        ),
        graph(
            "Prediction errors by reason",
            "Requests to /predict per second that got no prediction, by reason.",
            "reqps",
            query(refused, "{{reason}}"),
        ),
        graph(
            "Predicted rows",
            "Rows predicted per second, by model version.",
            "cps",
            query(rows, "{{model_name}} {{model_version}}"),
        ),
        cells(
            "Rows per request",
            "Successful prediction requests by number of rows.",
            "none",
            "model_request_rows",
            MODELS,
        ),
        graph(
            "Requests in progress",
            "Requests in progress, and the concurrency limit of all pods.",
            "none",
            query(f'sum(http_server_requests_in_progress{{{PODS},method="POST"}})', "in progress"),
            query(f"sum(model_concurrency_limit{{{PODS}}})", "limit"),
        ),
        graph(
            "Queued requests",
            "Requests that wait for a concurrency slot, by pod.",
            "none",
            query(f"sum by (pod) (model_requests_waiting{{{PODS}}})", "{{pod}}"),
        ),
    ]


def callers() -> list[Panel]:
    """Return what each caller asks for, and what its quota refuses."""
    refused = f"sum by (caller, reason) (rate(model_quota_refusals_total{{{PODS}}}{RATE}))"
    return [
        graph(
            "Requests by caller",
            "POST requests per second, by the name of the API key. Callers without a key are unknown.",
            "reqps",
            query(f"sum by (caller) (rate(model_caller_requests_total{{{PODS}}}{RATE}))", "{{caller}}"),
        ),
        graph(
            "Rows by caller",
            "Rows to predict or explain per second, by the name of the API key.",
            "cps",
            query(f"sum by (caller) (rate(model_caller_rows_total{{{PODS}}}{RATE}))", "{{caller}}"),
        ),
        graph(
            "Refused by quota",
            "Requests per second that got a 429, by caller and by what it has used up.",
            "reqps",
            query(refused, "{{caller}} {{reason}}"),
        ),
    ]


def latency() -> list[Panel]:
    """Return latency, in total and by stage and pod."""
    metric, stages = "http_server_request_duration_seconds", "model_inference_duration_seconds"
    quantiles = [query(quantile(share, metric, PREDICT), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]
    quantiles[-1].exemplar(True)
    latency = "Latency of /predict, measured in the pods. Diamonds are traced requests (monitoring.tracing)."
    return [
        graph("Latency percentiles", latency, "s", *quantiles),
        graph(
            "p95 latency by stage",
            "95th percentile of each stage of a prediction.",
            "s",
            query(quantile(0.95, stages, MODELS, "le, stage"), "{{stage}}"),
        ),
        graph(
            "p99 latency by pod",
            "99th percentile of the latency of /predict. More replicas do not help a single slow pod.",
            "s",
            query(quantile(0.99, metric, PREDICT, "le, pod"), "{{pod}}"),
        ),
        cells("Latency distribution", "Requests to /predict by latency.", "s", metric, PREDICT),
    ]


def resources() -> list[Panel]:
    """Return the resources and the model of each pod."""
    models_served = query(f"model_info{{{MODELS}}}", instant=True).format(PromQueryFormat.TABLE)
    served = table.Panel().title("Models served").description("Model of each pod, and the run that trained it.")
    served = served.datasource(SOURCE).unit("none").with_target(models_served).span(24).height(8)
    hidden = ("Time", "Value", "__name__", "container", "endpoint", "service", "instance", "prometheus")
    for name in hidden:
        served = served.override_by_name(name, [DynamicConfigValue(id_val="custom.hidden", value=True)])
    periods = f"sum by (pod) (rate(container_cpu_cfs_periods_total{{{OF_POD}}}{RATE}))"
    throttled = f"sum by (pod) (rate(container_cpu_cfs_throttled_periods_total{{{OF_POD}}}{RATE})) / {periods}"
    limit = f'max(kube_pod_container_resource_limits{{{OF_POD},resource="memory"}})'
    return [
        graph(
            "CPU usage",
            "CPU cores used, by pod.",
            "none",
            query(f"sum by (pod) (rate(process_cpu_seconds_total{{{PODS}}}{RATE}))", "{{pod}}"),
        ),
        graph(
            "Memory usage",
            "Resident memory by pod, and the limit above which a pod is killed.",
            "bytes",
            query(f"sum by (pod) (process_resident_memory_bytes{{{PODS}}})", "{{pod}}"),
            query(f"{limit} or max(container_spec_memory_limit_bytes{{{OF_POD}}} > 0)", "limit"),
        ),
        graph(
            "CPU throttling",
            "Ratio of the CPU periods in which a pod was throttled at its limit. Without a limit it is 0.",
            "percentunit",
            query(f"{throttled} or sum by (pod) (up{{{PODS}}}) * 0", "{{pod}}"),
        ),
        graph(
            "Process restarts",
            "Process starts, by pod.",
            "none",
            query(f"sum by (pod) (changes(process_start_time_seconds{{{PODS}}}{RATE}))", "{{pod}}"),
        ),
        graph(
            "Scrape duration",
            "Time that a scrape of a pod takes.",
            "s",
            query(f"max by (pod) (scrape_duration_seconds{{{PODS}}})", "{{pod}}"),
        ),
        graph(
            "Series per pod",
            "Series that a pod exposes. Above the ServiceMonitor's sampleLimit, Prometheus drops the whole scrape.",
            "none",
            query(f"max by (pod) (scrape_samples_post_metric_relabeling{{{PODS}}})", "{{pod}}"),
        ),
        served,
    ]


if __name__ == "__main__":
    description = "Traffic, errors, latency and resources of charts/model-service."
    rows = {"Overview": glance(), "Traffic": traffic(), "Callers": callers(), "Latency": latency()}
    rows["Resources"] = resources()
    sys.stdout.write(build("Model service", "model-service", description, "model_info", rows, VERSIONS))
