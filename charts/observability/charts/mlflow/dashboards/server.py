"""Dashboard of the MLflow server: requests, errors, latency, volume and pods of the selected releases.

Volume, memory and CPU come from the kubelet. Its series have claim and pod names, which begin with the job.
"""

import sys

from tools.generate.panels import OF_POD, PODS, RATE, Panel, build, cells, graph, number, quantile, query

REQUESTS = "mlflow_http_request_total"
SECONDS = "mlflow_http_request_duration_seconds"
CLAIM = 'namespace=~"$namespace",persistentvolumeclaim=~"$job"'


def glance() -> list[Panel]:
    """Return the overview."""
    total = f"sum(rate({REQUESTS}{{{PODS}}}{RATE}))"
    failed = f'(sum(rate({REQUESTS}{{{PODS},status=~"5.."}}{RATE})) or {total} * 0)'
    free = f"min(kubelet_volume_stats_available_bytes{{{CLAIM}}} / kubelet_volume_stats_capacity_bytes{{{CLAIM}}})"
    versions = f"count(count by (mlflow_version) ({SECONDS}_count{{{PODS}}}))"
    return [
        number("Request rate", "Requests per second, without artifact transfers.", "reqps", total),
        number("Error ratio", "Ratio of requests with a 5xx status.", "percentunit", f"{failed} / {total}", 0.01, 0.05),
        number("p95 latency", "95th percentile of the latency.", "s", quantile(0.95, SECONDS, PODS), 1, 2.5),
        number("Pods", "Pods that Prometheus can scrape.", "none", f"sum(up{{{PODS}}})"),
        number("Volume usage", "Used ratio of the fullest volume.", "percentunit", f"1 - {free}", 0.8, 0.9),
        number("MLflow versions", "Versions that served requests.", "none", versions),
    ]


def requests() -> list[Panel]:
    """Return requests by status, method and pod."""
    by_status = query(f"sum by (status) (rate({REQUESTS}{{{PODS}}}{RATE}))", "{{status}}")
    by_method = query(f"sum by (method) (rate({REQUESTS}{{{PODS}}}{RATE}))", "{{method}}")
    by_pod = query(f"sum by (pod) (rate({REQUESTS}{{{PODS}}}{RATE}))", "{{pod}}")
    return [
        graph(
            "Request rate by status",
            "Requests per second by status code. 401 means a missing login.",
            "reqps",
            by_status,
        ),
        graph("Request rate by method", "Requests per second by HTTP method.", "reqps", by_method),
        graph("Request rate by pod", "Requests per second by pod.", "reqps", by_pod),
    ]


def latency() -> list[Panel]:
    """Return the latency."""
    quantiles = [query(quantile(share, SECONDS, PODS), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]
    by_method = query(quantile(0.95, SECONDS, PODS, "le, method"), "{{method}}")
    return [
        graph("Latency percentiles", "Latency of all requests, measured in the pods.", "s", *quantiles),
        graph("p95 latency by method", "95th percentile of the latency by HTTP method.", "s", by_method),
        cells("Latency distribution", "Requests by latency.", "s", SECONDS, PODS),
    ]


def pods() -> list[Panel]:
    """Return volume, memory and CPU."""
    used = query(
        f"sum by (persistentvolumeclaim) (kubelet_volume_stats_used_bytes{{{CLAIM}}})", "{{persistentvolumeclaim}}"
    )
    size = query(f"sum by (persistentvolumeclaim) (kubelet_volume_stats_capacity_bytes{{{CLAIM}}})", "size")
    memory = query(f"max by (pod) (container_memory_working_set_bytes{{{OF_POD}}})", "{{pod}}")
    cpu = query(f"max by (pod) (rate(container_cpu_usage_seconds_total{{{OF_POD}}}{RATE}))", "{{pod}}")
    return [
        graph("Volume size and usage", "Used bytes of the volume, and its size.", "bytes", used, size),
        graph("Memory usage", "Working set of each pod: the parent process and its workers.", "bytes", memory),
        graph("CPU usage", "CPU cores used, by pod.", "none", cpu),
    ]  # fmt: skip


if __name__ == "__main__":
    description = "Requests, errors, latency, volume and pods of the MLflow server."
    rows = {"Overview": glance(), "Requests": requests(), "Latency": latency(), "Pods and volume": pods()}
    version = (f"{SECONDS}_count", "mlflow_version")
    made = build("MLflow server", "mlflow-server", description, "mlflow_exporter_info", rows, version=version)
    sys.stdout.write(made)
