"""Tests of the real kube-prometheus-stack next to the cluster's own Prometheus: it discovers MLflow and every model.

They need its package. Without it they are left out and counted. The images of operator, Prometheus, Alertmanager and
node-exporter are built here. Grafana and kube-state-metrics, which have no such image, are disabled.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.cluster.access import Access, http, promql, wait_for_series
from tools.cluster.console import wait_for
from tools.cluster.images import ALERTMANAGER, MLFLOW, NODE_EXPORTER, OPERATOR, PROMETHEUS, RELOADER, Image
from tools.cluster.main_job import NAMESPACE, PROMETHEUS_VERSION, RELEASE, image_values, install
from tools.cluster.registry import push
from tools.cluster.umbrella import DEPENDENCY, copy_umbrella

pytestmark = pytest.mark.long

STACK, HERE = "stack", "umbrella"
FULLNAME = f"{RELEASE}-model-service"
OPERATED = f"{DEPENDENCY}.prometheusOperator"
IMAGES: dict[str, Image] = {
    f"{OPERATED}.image": OPERATOR,
    f"{OPERATED}.prometheusConfigReloader.image": RELOADER,
    f"{DEPENDENCY}.prometheus.prometheusSpec.image": PROMETHEUS,
    f"{DEPENDENCY}.alertmanager.alertmanagerSpec.image": ALERTMANAGER,
    f"{DEPENDENCY}.prometheus-node-exporter.image": NODE_EXPORTER,
    "mlflow.image": MLFLOW,
}
VALUES = {
    f"{OPERATED}.prometheusInstanceNamespaces": json.dumps([HERE]),
    f"{OPERATED}.alertmanagerInstanceNamespaces": json.dumps([HERE]),
    f"{DEPENDENCY}.prometheus.prometheusSpec.version": json.dumps(PROMETHEUS_VERSION),
    f"{DEPENDENCY}.alertmanager.alertmanagerSpec.version": json.dumps("v0.28.1"),
    f"{DEPENDENCY}.prometheus-node-exporter.image.distroless": "false",
    f"{DEPENDENCY}.grafana.enabled": "false",
    f"{DEPENDENCY}.kubeStateMetrics.enabled": "false",
}


@pytest.fixture(scope="module")
def stack(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The umbrella chart with the values for kind, in its own namespace."""
    for image in IMAGES.values():
        push(image)
    chart = copy_umbrella(tmp_path_factory.mktemp("stack") / "observability")
    flags = [flag for key, image in IMAGES.items() for flag in image_values(image, key)]
    flags += [f"--set-json={key}={value}" for key, value in VALUES.items()]
    try:
        install(access, STACK, chart, HERE, f"--values={chart / 'values-kind.yaml'}", *flags)
        for name in ("prometheus-obs-prometheus", "alertmanager-obs-alertmanager"):
            rollout = ["rollout", "status", f"statefulset/{name}", f"--namespace={HERE}", "--timeout=10s"]
            wait_for(name, lambda: access.kubectl(*rollout), timeout_seconds=300, remedy="See the operator's log.")  # noqa: B023
        yield
    finally:
        access.helm("uninstall", STACK, "--namespace", HERE, "--ignore-not-found", "--wait")
        access.kubectl("delete", "namespace", HERE, "--ignore-not-found")
        access.kubectl("delete", "service", "obs-kubelet", "--namespace=kube-system", "--ignore-not-found")


@pytest.fixture
def own_prometheus(access: Access, stack: None) -> Iterator[str]:  # noqa: ARG001 - the stack must exist
    """Local URL of the stack's Prometheus, through the Service in the notes."""
    with access.forward("service/obs-prometheus", 9090, HERE) as url:
        yield url


def test_models_in_other_namespaces_are_scraped_without_labels(access: Access, own_prometheus: str) -> None:
    monitor = access.get("servicemonitor", FULLNAME, NAMESPACE)
    assert "release" not in monitor["metadata"]["labels"]

    up = wait_for_series(own_prometheus, f'up{{namespace="{NAMESPACE}",job="{FULLNAME}"}} == 1')

    assert {"pod", "service", "instance", "container", "endpoint"} <= set(up[0]["metric"])
    assert wait_for_series(own_prometheus, f'model_info{{namespace="{NAMESPACE}",job="{FULLNAME}"}}')


def test_mlflow_is_scraped(own_prometheus: str) -> None:
    assert wait_for_series(own_prometheus, f'up{{namespace="{HERE}",job="{STACK}-mlflow"}} == 1')


def test_rules_of_every_release_are_loaded(own_prometheus: str) -> None:
    def files() -> list[str]:
        groups: list[dict[str, Any]] = http(f"{own_prometheus}/api/v1/rules")["data"]["groups"]
        assert not [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")]
        return [group["file"] for group in groups]

    def loaded() -> bool:
        found = files()
        return all(
            any(name in file for file in found) for name in (f"{NAMESPACE}-{FULLNAME}-", f"{HERE}-{STACK}-mlflow-")
        )

    wait_for("rules of the model and of MLflow", loaded, timeout_seconds=300, remedy="Is the ruleSelector empty?")


def test_prometheus_has_the_configured_settings(own_prometheus: str) -> None:
    flags = http(f"{own_prometheus}/api/v1/status/flags")["data"]
    configuration = http(f"{own_prometheus}/api/v1/status/config")["data"]["yaml"]

    assert flags["enable-feature"] == "exemplar-storage"
    assert flags["storage.tsdb.retention.time"] == "1d"
    assert "scrape_interval: 30s" in configuration


def test_node_and_kubelet_are_scraped(own_prometheus: str) -> None:
    assert wait_for_series(own_prometheus, "node_memory_MemAvailable_bytes > 0")
    assert wait_for_series(own_prometheus, "kubelet_running_pods > 0")


def test_alerts_reach_alertmanager(access: Access, own_prometheus: str) -> None:
    wait_for_series(own_prometheus, 'ALERTS{alertname="Watchdog",alertstate="firing"}')

    with access.forward("service/obs-alertmanager", 9093, HERE) as alertmanager:
        wait_for(
            "the Watchdog in Alertmanager",
            lambda: any(a["labels"]["alertname"] == "Watchdog" for a in http(f"{alertmanager}/api/v2/alerts")),
            timeout_seconds=300,
            remedy="Is the Alertmanager in the configuration of Prometheus?",
        )


def test_no_target_is_down(own_prometheus: str) -> None:
    wait_for_series(own_prometheus, "count(up) > 5")

    assert [found["metric"] for found in promql(own_prometheus, "up == 0")] == []


def test_own_prometheus_of_the_cluster_is_unchanged(access: Access, prometheus: str, stack: None) -> None:  # noqa: ARG001
    owner = access.get("prometheus", "prometheus", "monitoring")

    assert owner["spec"]["version"] == PROMETHEUS_VERSION
    assert promql(prometheus, f'up{{namespace="{NAMESPACE}"}} == 1')
    assert len(access.get_all("statefulset", "app.kubernetes.io/name=prometheus", HERE)) == 1


def test_notes_are_printed(access: Access, stack: None) -> None:  # noqa: ARG001
    text = access.helm("get", "notes", STACK, "--namespace", HERE)

    assert f"trackingUri: http://{STACK}-mlflow.{HERE}.svc.cluster.local:5000" in text
    assert f"kubectl -n {HERE} port-forward service/obs-prometheus 9090:9090" in text


def test_helm_test_passes(access: Access, stack: None) -> None:  # noqa: ARG001
    done = access.helm("test", STACK, "--namespace", HERE, "--filter", f"name={STACK}-mlflow-check", "--timeout=300s")

    assert "Succeeded" in done


def test_package_is_the_real_chart(tmp_path: Path) -> None:
    chart = copy_umbrella(tmp_path / "copy") / "charts" / DEPENDENCY

    assert (chart / "templates" / "prometheus" / "prometheus.yaml").is_file()
