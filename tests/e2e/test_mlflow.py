"""Tests of the MLflow server as the charts install it, with monitoring and authentication."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_monitoring import VARIABLES, assert_each_query_has_data
from tools.charts import MLFLOW as CHART
from tools.charts import MODEL_SERVICE
from tools.cluster.access import Access, http, wait_for_series
from tools.cluster.console import wait_for
from tools.cluster.images import APP, MLFLOW
from tools.cluster.main_job import ALIAS, MODEL, MONITORING, OBSERVABILITY, TRAINS, image_values, install

FULLNAME = f"{OBSERVABILITY}-mlflow"
RELEASE, NAMESPACE = "closed", "mlflow-auth"
SERVER = f"{RELEASE}-mlflow"
CASE = CHART / "ci" / "auth-values.yaml"
LOGIN: dict[str, str] = yaml.safe_load(CASE.read_text())["extraObjects"][0]["stringData"]
DASHBOARD = CHART / "files" / "dashboards" / "server.json"
EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"


@pytest.fixture(scope="module")
def closed(access: Access) -> Iterator[Access]:
    """The chart's auth example with a ServiceMonitor, in a namespace with restricted Pod Security."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(namespace))
    try:
        monitor = [
            "--set=monitoring.serviceMonitor.enabled=true",
            "--set=monitoring.serviceMonitor.interval=5s,monitoring.serviceMonitor.scrapeTimeout=4s",
        ]
        install(access, RELEASE, CHART, NAMESPACE, f"--values={CASE}", *image_values(MLFLOW), *monitor)
        yield access
    finally:
        # Uninstall first: a namespace with running pods takes half of their grace period longer to delete.
        access.helm("uninstall", RELEASE, "reader", "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
        access.kubectl("delete", "namespace", NAMESPACE)


def status(url: str, host: str = "", *, password: str = "", method: str = "GET", origin: str = "") -> int:
    """Return the status of a request with a Host header, an origin and the administrator's password, if given."""
    headers = {"Host": host} if host else {}
    headers |= {"Origin": origin, "Content-Type": "application/json"} if origin else {}
    if password:
        headers["Authorization"] = f"Basic {base64.b64encode(f'{LOGIN["username"]}:{password}'.encode()).decode()}"
    data = b'{"max_results": 1}' if method == "POST" else None
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - local URLs
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_only_the_administrator_is_authorized(closed: Access) -> None:
    with closed.forward(f"service/{SERVER}", 5000, NAMESPACE) as url:
        assert status(f"{url}/health") == HTTPStatus.OK
        for path in ("/", "/version", "/metrics", EXPERIMENTS):
            assert status(url + path) == HTTPStatus.UNAUTHORIZED
            assert status(url + path, password=LOGIN["password"][:-1]) == HTTPStatus.UNAUTHORIZED
            assert status(url + path, password=LOGIN["password"]) == HTTPStatus.OK


def test_unknown_host_headers_are_rejected(closed: Access) -> None:
    names = [SERVER, f"{SERVER}.{NAMESPACE}", f"{SERVER}.{NAMESPACE}.svc", f"{SERVER}.{NAMESPACE}.svc.cluster.local"]
    foreign = ["evil.example", f"{SERVER}.evil.example", f"evil.{SERVER}", f"{SERVER}:80", "198.51.100.7:5000"]
    with closed.forward(f"service/{SERVER}", 5000, NAMESPACE) as url:
        for host in [*names, *(f"{name}:5000" for name in names), "mlflow.example", "mlflow.example:8443"]:
            assert status(url + EXPERIMENTS, host, password=LOGIN["password"]) == HTTPStatus.OK, host
        for host in foreign:
            assert status(url + EXPERIMENTS, host, password=LOGIN["password"]) == HTTPStatus.FORBIDDEN, host


def test_write_requests_require_an_allowed_origin(closed: Access) -> None:
    search = "/ajax-api/2.0/mlflow/experiments/search"
    with closed.forward(f"service/{SERVER}", 5000, NAMESPACE) as url:
        for origin, expected in (
            ("https://mlflow.example", HTTPStatus.OK),
            ("https://evil.example", HTTPStatus.FORBIDDEN),
        ):
            found = status(url + search, "mlflow.example", password=LOGIN["password"], method="POST", origin=origin)
            assert found == expected, origin


@pytest.mark.usefixtures("closed")
def test_prometheus_scrapes_with_a_login(prometheus: str) -> None:
    wait_for_series(prometheus, f'up{{namespace="{NAMESPACE}",job="{SERVER}",pod=~".+"}} == 1', timeout_seconds=300)


def test_helm_test_logs_and_finds_a_run(closed: Access) -> None:
    printed = closed.helm("test", RELEASE, "--namespace", NAMESPACE, "--logs", "--timeout=300s")

    assert "Succeeded" in printed
    assert "was logged with an artifact, read back, found by a search and deleted" in printed


def test_model_is_trained_and_served_with_a_login(closed: Access) -> None:
    login = {"MLFLOW_TRACKING_USERNAME": LOGIN["username"], "MLFLOW_TRACKING_PASSWORD": LOGIN["password"]}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mlflow-login"}, "stringData": login}
    closed.kubectl("apply", "--server-side", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(secret))
    uri = f"http://{SERVER}.{NAMESPACE}.svc.cluster.local:5000"
    install(
        closed, "reader", MODEL_SERVICE, NAMESPACE, *image_values(APP), *TRAINS,
        f"--set=model.uri=models:/{MODEL}@{ALIAS}", f"--set=mlflow.trackingUri={uri}",
        "--set=mlflow.existingSecret=mlflow-login", "--set=replicaCount=1", "--set=podDisruptionBudget.enabled=false",
        "--set=resources.requests.cpu=50m", timeout="8m",
    )  # fmt: skip

    with closed.forward("service/reader-model-service", 80, NAMESPACE) as url:
        answer = http(f"{url}/predict", http(f"{url}/model")["input_example"])
        assert answer["model"] == {"name": MODEL, "version": "1"}


def _rules(prometheus: str) -> list[dict[str, Any]]:
    groups = http(f"{prometheus}/api/v1/rules")["data"]["groups"]
    return [rule for group in groups if f"{MONITORING}-{FULLNAME}-" in group["file"] for rule in group["rules"]]


def test_alerts_are_evaluated_and_silent_when_healthy(prometheus: str) -> None:
    healthy = lambda: _rules(prometheus) and all(rule["health"] == "ok" for rule in _rules(prometheus))  # noqa: E731
    wait_for("healthy rules", healthy, timeout_seconds=300, remedy="Does the operator reject the PrometheusRule?")

    rules = {rule["name"]: rule for rule in _rules(prometheus)}

    assert rules.keys() == {"MLflowDown", "MLflowErrors", "MLflowSlow", "MLflowVolumeFull"}
    assert "firing" not in {rules["MLflowDown"]["state"], rules["MLflowErrors"]["state"]}


def test_every_dashboard_query_returns_data(mlflow_url: str, prometheus: str) -> None:
    variables = {**VARIABLES, "$namespace": MONITORING, "$job": FULLNAME}

    assert_each_query_has_data(prometheus, DASHBOARD, variables, lambda: http(mlflow_url + EXPERIMENTS))


def test_dashboard_has_the_label_of_the_sidecar(access: Access) -> None:
    found = access.get("configmap", f"{FULLNAME}-grafana", MONITORING)

    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["data"] == {DASHBOARD.name: Path(DASHBOARD).read_text()}
