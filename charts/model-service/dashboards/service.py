"""The dashboard of the service: traffic, errors, latency and resources of the chosen releases.

Limits and throttling are told by pod, whose names begin with the job's: no job is known to who tells them.
"""

import sys

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from panels import (
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
    """Return what one looks at first."""
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
        number("Requests", "Requests per second, of all paths.", "reqps", total),
        number("Errors", "Share of requests that ended with a 5xx.", "percentunit", errors, 0.001, 0.01),
        number("p99", "99th percentile of /predict, measured in the pod.", "s", p99, 0.25, 1),
        number("Pods", "Pods that can be scraped and have their model.", "none", f"sum(model_info{{{MODELS}}})"),
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
        number(
            "Budget spent",
            "Share of the error budget of the last 30 days.",
            "percentunit",
            spent,
            0.75,
            1,
            instant=True,
        ),
        number("Late", "Share of the predictions of an hour that took longer than the objective.", "percentunit", late),
    ]
    return [panel.span(3) for panel in shown]


def traffic() -> list[Panel]:
    """Return what comes in and what is refused."""
    rows = f"sum by (model_name, model_version) (rate(model_predictions_total{{{MODELS}}}{RATE}))"
    refused = f"sum by (reason) (rate(model_errors_total{{{MODELS}}}{RATE}))"
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
            "cps",
            query(rows, "{{model_name}} {{model_version}}"),
        ),
        cells(
            "Rows per request", "Requests that got predictions, by their rows.", "none", "model_request_rows", MODELS
        ),
        graph(
            "In progress",
            "Requests being answered, and how many the pods answer at once.",
            "none",
            query(f'sum(http_server_requests_in_progress{{{PODS},method="POST"}})', "in progress"),
            query(f"sum(model_concurrency_limit{{{PODS}}})", "limit"),
        ),
        graph(
            "Waiting",
            "Requests that wait for a slot, by pod.",
            "none",
            query(f"sum by (pod) (model_requests_waiting{{{PODS}}})", "{{pod}}"),
        ),
    ]


def latency() -> list[Panel]:
    """Return how long answers take, and where the time goes."""
    metric, stages = "http_server_request_duration_seconds", "model_inference_duration_seconds"
    quantiles = [query(quantile(share, metric, PREDICT), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]
    return [
        graph("Latency", "Percentiles of /predict, measured in the pods.", "s", *quantiles),
        graph(
            "p95 by stage",
            "95th percentile of each stage of a prediction.",
            "s",
            query(quantile(0.95, stages, MODELS, "le, stage"), "{{stage}}"),
        ),
        graph(
            "p99 by pod",
            "99th percentile of /predict, by pod: one alone that is slow is no lack of pods.",
            "s",
            query(quantile(0.99, metric, PREDICT, "le, pod"), "{{pod}}"),
        ),
        cells("Distribution", "Requests to /predict by how long they took.", "s", metric, PREDICT),
    ]


def resources() -> list[Panel]:
    """Return what each pod uses, and which model it serves."""
    models_served = query(f"model_info{{{MODELS}}}", instant=True).format(PromQueryFormat.TABLE)
    served = table.Panel().title("Models served").description("Each pod with its model, and the run that made that.")
    served = served.datasource(SOURCE).unit("none").with_target(models_served).span(24).height(8)
    hidden = ("Time", "Value", "__name__", "container", "endpoint", "service", "instance", "prometheus")
    for name in hidden:
        served = served.override_by_name(name, [DynamicConfigValue(id_val="custom.hidden", value=True)])
    periods = f"sum by (pod) (rate(container_cpu_cfs_periods_total{{{OF_POD}}}{RATE}))"
    throttled = f"sum by (pod) (rate(container_cpu_cfs_throttled_periods_total{{{OF_POD}}}{RATE})) / {periods}"
    limit = f'max(kube_pod_container_resource_limits{{{OF_POD},resource="memory"}})'
    return [
        graph(
            "CPU",
            "CPU seconds per second, by pod: 1 is one core.",
            "none",
            query(f"sum by (pod) (rate(process_cpu_seconds_total{{{PODS}}}{RATE}))", "{{pod}}"),
        ),
        graph(
            "Memory",
            "Resident memory, by pod, and the limit at which a pod is ended.",
            "bytes",
            query(f"sum by (pod) (process_resident_memory_bytes{{{PODS}}})", "{{pod}}"),
            query(f"{limit} or max(container_spec_memory_limit_bytes{{{OF_POD}}} > 0)", "limit"),
        ),
        graph(
            "CPU throttling",
            "Share of the time slices in which a pod used up its CPU limit; none without a limit.",
            "percentunit",
            query(f"{throttled} or sum by (pod) (up{{{PODS}}}) * 0", "{{pod}}"),
        ),
        graph(
            "Restarts",
            "Starts of each pod's process.",
            "none",
            query(f"sum by (pod) (changes(process_start_time_seconds{{{PODS}}}{RATE}))", "{{pod}}"),
        ),
        graph(
            "Scrape",
            "How long Prometheus waits for a pod's metrics.",
            "s",
            query(f"max by (pod) (scrape_duration_seconds{{{PODS}}})", "{{pod}}"),
        ),
        graph(
            "Series",
            "Series of each pod; of one with more than serviceMonitor.sampleLimit Prometheus takes none.",
            "none",
            query(f"max by (pod) (scrape_samples_post_metric_relabeling{{{PODS}}})", "{{pod}}"),
        ),
        served,
    ]


if __name__ == "__main__":
    description = "Traffic, errors, latency and resources of charts/model-service."
    rows = {"At a glance": glance(), "Traffic": traffic(), "Latency": latency(), "Resources": resources()}
    sys.stdout.write(build("Model service", "model-service", description, "model_info", rows, VERSIONS))
