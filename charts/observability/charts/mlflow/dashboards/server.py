"""The dashboard of the MLflow server: requests, errors, latency, volume and pods of the chosen releases.

Volume, memory and CPU are the kubelet's to tell. It knows claims and pods, whose names begin with the job's.
"""

import sys

from panels import OF_POD, PODS, RATE, Panel, build, cells, graph, number, quantile, query

REQUESTS = "mlflow_http_request_total"
SECONDS = "mlflow_http_request_duration_seconds"
CLAIM = 'namespace=~"$namespace",persistentvolumeclaim=~"$job"'


def glance() -> list[Panel]:
    """Return what one looks at first."""
    total = f"sum(rate({REQUESTS}{{{PODS}}}{RATE}))"
    failed = f'(sum(rate({REQUESTS}{{{PODS},status=~"5.."}}{RATE})) or {total} * 0)'
    free = f"min(kubelet_volume_stats_available_bytes{{{CLAIM}}} / kubelet_volume_stats_capacity_bytes{{{CLAIM}}})"
    versions = f"count(count by (mlflow_version) ({SECONDS}_count{{{PODS}}}))"
    return [
        number("Requests", "Requests per second; transfers of artifacts are not counted.", "reqps", total),
        number("Errors", "Share of requests that ended with a 5xx.", "percentunit", f"{failed} / {total}", 0.01, 0.05),
        number("p95", "95th percentile of all answers.", "s", quantile(0.95, SECONDS, PODS), 1, 2.5),
        number("Pods", "Pods that can be scraped.", "none", f"sum(up{{{PODS}}})"),
        number("Volume used", "Used share of the fullest volume.", "percentunit", f"1 - {free}", 0.8, 0.9),
        number("Versions", "MLflow versions that answered.", "none", versions),
    ]


def requests() -> list[Panel]:
    """Return what is asked and how it ends."""
    by_status = query(f"sum by (status) (rate({REQUESTS}{{{PODS}}}{RATE}))", "{{status}}")
    by_method = query(f"sum by (method) (rate({REQUESTS}{{{PODS}}}{RATE}))", "{{method}}")
    by_pod = query(f"sum by (pod) (rate({REQUESTS}{{{PODS}}}{RATE}))", "{{pod}}")
    return [
        graph("Requests by status", "Requests per second by status code; 401: no login.", "reqps", by_status),
        graph("Requests by method", "Requests per second by HTTP method.", "reqps", by_method),
        graph("Requests by pod", "Requests per second by the pod that answered.", "reqps", by_pod),
    ]


def latency() -> list[Panel]:
    """Return how long answers take."""
    quantiles = [query(quantile(share, SECONDS, PODS), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]
    by_method = query(quantile(0.95, SECONDS, PODS, "le, method"), "{{method}}")
    return [
        graph("Latency", "Percentiles of all answers, measured in the pods.", "s", *quantiles),
        graph("p95 by method", "95th percentile by HTTP method.", "s", by_method),
        cells("Distribution", "Requests by how long they took.", "s", SECONDS, PODS),
    ]


def pods() -> list[Panel]:
    """Return what is used."""
    used = query(
        f"sum by (persistentvolumeclaim) (kubelet_volume_stats_used_bytes{{{CLAIM}}})", "{{persistentvolumeclaim}}"
    )
    size = query(f"sum by (persistentvolumeclaim) (kubelet_volume_stats_capacity_bytes{{{CLAIM}}})", "size")
    memory = query(f"max by (pod) (container_memory_working_set_bytes{{{OF_POD}}})", "{{pod}}")
    cpu = query(f"max by (pod) (rate(container_cpu_usage_seconds_total{{{OF_POD}}}{RATE}))", "{{pod}}")
    return [
        graph("Volume", "Used bytes of the volume, and its size.", "bytes", used, size),
        graph("Memory", "Memory of each pod: its parent process and its workers.", "bytes", memory),
        graph("CPU", "CPU seconds per second, by pod: 1 is one core.", "none", cpu),
    ]  # fmt: skip


if __name__ == "__main__":
    description = "Requests, errors, latency, volume and pods of the MLflow server."
    rows = {"At a glance": glance(), "Requests": requests(), "Latency": latency(), "Pods and volume": pods()}
    version = (f"{SECONDS}_count", "mlflow_version")
    made = build("MLflow server", "mlflow-server", description, "mlflow_exporter_info", rows, version=version)
    sys.stdout.write(made)
