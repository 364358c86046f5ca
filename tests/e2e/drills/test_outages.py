"""Drills of services that the pods or the cluster depend on: while they are unreachable, clients see nothing of it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.champion import register_champion
from tests.e2e.drills.drill import (
    FULLNAME,
    NAMESPACE,
    NOTHING,
    ask_prometheus,
    drill,
    install_release,
    pods,
    scale,
    wait_until_complete,
)
from tests.e2e.outage import without
from tools.cluster import engine
from tools.cluster.access import Access
from tools.cluster.console import wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import MONITORING, OBSERVABILITY
from tools.cluster.production import FULLNAME as PRODUCTION
from tools.cluster.production import install_mlflow, stores, wait_until_ready
from tools.cluster.stores import make_bucket

MLFLOW = f"{OBSERVABILITY}-mlflow"
# A server that answers everything with the body of its argument after a time.
FALSE_MLFLOW = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(float(sys.argv[1]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")
    do_POST = do_GET
http.server.ThreadingHTTPServer(("", 5000), Handler).serve_forever()
"""


def _grow_and_lose_a_pod(access: Access) -> None:
    """Do what an autoscaler and a node drain do: pods start while the registry is unreachable."""
    scale(access, 4)
    wait_until_complete(access, 4)
    access.kubectl("delete", "pod", pods(access)[0], f"--namespace={NAMESPACE}")
    wait_until_complete(access, 4)
    scale(access, 2)
    wait_until_complete(access)


@pytest.mark.long
def test_mlflow_away(access: Access) -> None:
    fault = "MLflow is unreachable for ten minutes; the release grows and loses a pod meanwhile"
    with (
        drill(access, "MLflow away", fault=fault, promise=NOTHING) as counted,
        without(access, MLFLOW, MONITORING),
    ):
        until = time.monotonic() + 600
        _grow_and_lose_a_pod(access)
        time.sleep(max(0.0, until - time.monotonic()))

    assert counted.failures == counted.refused == 0


@pytest.fixture
def production(access: Access, mlflow_url: str, tmp_path: Path) -> Iterator[str]:
    """Namespace of an MLflow with PostgreSQL and a bucket, from which the release gets its model."""
    with stores(access, "drills-stores") as namespace:
        make_bucket(access, namespace)
        install_mlflow(access, namespace, tmp_path)
        wait_until_ready(access, namespace)
        with access.forward(f"service/{PRODUCTION}", 5000, namespace) as url:
            register_champion(mlflow_url, url, tmp_path)
        install_release(access, f"--set-string=mlflow.trackingUri=http://{PRODUCTION}.{namespace}:5000")
        wait_until_complete(access)
        yield namespace
        install_release(access)


@pytest.mark.long
def test_stores_away(access: Access, production: str) -> None:
    fault = "PostgreSQL and the bucket of MLflow are unreachable for two minutes; the release grows and loses a pod"
    with (
        drill(access, "stores away", fault=fault, promise=NOTHING) as counted,
        without(access, "database", production),
        without(access, "bucket", production),
    ):
        until = time.monotonic() + 120
        _grow_and_lose_a_pod(access)
        time.sleep(max(0.0, until - time.monotonic()))

    assert counted.failures == counted.refused == 0


@pytest.mark.long
@pytest.mark.parametrize(("name", "seconds"), [("MLflow wrong", 0), ("MLflow slow", 60)])
def test_mlflow_that_answers_wrongly_or_slowly(access: Access, name: str, seconds: int) -> None:
    command = ["python3", "-c", FALSE_MLFLOW, str(seconds)]
    container = {"name": "server", "image": APP.reference, "command": command}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    metadata = {"name": "false-mlflow", "namespace": MONITORING, "labels": {"false": "mlflow"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    service = access.get("service", MLFLOW, MONITORING)
    port = service["spec"]["ports"][0]

    def patch(selector: object, target: object) -> None:
        changes = [
            {"op": "replace", "path": "/spec/selector", "value": selector},
            {"op": "replace", "path": "/spec/ports/0/targetPort", "value": target},
        ]
        access.kubectl(
            "patch", "service", MLFLOW, f"--namespace={MONITORING}", "--type=json", "-p", json.dumps(changes)
        )

    access.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    answers = f"{seconds} s late" if seconds else "a page of HTML"
    fault = f"each answer of MLflow is {answers}; the release grows and loses a pod"
    try:
        access.kubectl(
            "wait", "pod/false-mlflow", f"--namespace={MONITORING}", "--for=condition=Ready", "--timeout=300s"
        )
        with drill(access, name, fault=fault, promise=NOTHING) as counted:
            patch({"false": "mlflow"}, 5000)
            _grow_and_lose_a_pod(access)
    finally:
        patch(service["spec"]["selector"], port["targetPort"])
        access.kubectl("delete", "pod", "false-mlflow", f"--namespace={MONITORING}")

    assert counted.failures == counted.refused == 0


@pytest.mark.long
def test_prometheus_away(access: Access) -> None:
    """The counters are in the pods, so a rate over the gap is right again after two scrapes."""
    query = f'sum(increase(http_server_requests_total{{job="{FULLNAME}",path="/predict"}}[5m]))'
    (pod,) = access.get_all("pod", "app.kubernetes.io/name=prometheus", MONITORING)
    signal = ["exec", pod["spec"]["nodeName"], "pkill", "--exact", "prometheus", "--signal"]
    fault = "Prometheus does not run for a minute"
    with drill(access, "Prometheus away", fault=fault, promise=NOTHING) as counted:
        engine.docker(*signal, "STOP")
        try:
            time.sleep(60)
        finally:
            engine.docker(*signal, "CONT")
        time.sleep(60)
    increase = float(ask_prometheus(access, query)[0]["value"][1])

    assert counted.failures == counted.refused == 0
    assert increase > counted.requests * 0.75, (increase, counted)


@pytest.mark.long
def test_api_server_away(access: Access) -> None:
    (node,) = (each["metadata"]["name"] for each in access.get_all("node", "node-role.kubernetes.io/control-plane", ""))
    manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
    with drill(access, "API server away", fault="the API server does not run for a minute", promise=NOTHING) as counted:
        engine.docker("exec", node, "mv", manifest, "/tmp/")  # noqa: S108 - of the node
        try:
            time.sleep(60)
        finally:
            engine.docker("exec", node, "mv", "/tmp/kube-apiserver.yaml", manifest)  # noqa: S108
        ready = lambda: access.kubectl("get", "--raw", "/readyz") == "ok"  # noqa: E731
        wait_for("the API server", ready, timeout_seconds=300, remedy="")

    assert counted.failures == counted.refused == 0


@pytest.mark.long
def test_dns_away(access: Access) -> None:
    """The clients know the address. The pods resolve no name to answer a request."""
    address = access.get("service", FULLNAME, NAMESPACE)["spec"]["clusterIP"]
    fault = "the cluster's DNS does not run for a minute"
    with (
        drill(access, "DNS away", fault=fault, promise=NOTHING, host=address) as counted,
        without(access, "coredns", "kube-system"),
    ):
        time.sleep(60)

    assert counted.failures == counted.refused == 0
