"""Tests of gRPC: a port of the container, of the Service and of the network policy, and a setting of the service."""

import shutil
from pathlib import Path

import pytest

from app.settings import Settings
from tests.charts.harness import MINIMAL, container, environment, only, rendered, show_notes
from tools.charts import MODEL_SERVICE, HelmError, Values, render

ON: Values = {"api": {"grpc": {"enabled": True}}}
FRIENDS = [{"podSelector": {"matchLabels": {"caller": "friend"}}}]
PORT = 8003


def test_absent_by_default() -> None:
    objects = rendered()

    assert "grpc" not in str(objects).lower()


def test_service_leads_to_the_port_that_the_container_listens_on(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = rendered({"api": {"grpc": {"enabled": True, "port": 9000}}})
    for name, value in environment(objects).items():
        if isinstance(value, str):  # else the kubelet provides it
            monkeypatch.setenv(name, value)

    assert only(objects, "Service")["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"},
        {"name": "grpc", "port": 9000, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
    ]
    assert {"name": "grpc", "containerPort": PORT} in container(objects)["ports"]
    assert Settings(**{}).grpc_port == PORT


def test_network_policy_admits_only_the_clients() -> None:
    policy = {"enabled": True, "ingressFrom": FRIENDS, "controllerFrom": [{"namespaceSelector": {}}]}
    ingress = {"enabled": True, "hosts": [{"host": "a.example"}]}

    rules = only(rendered({**ON, "networkPolicy": policy, "ingress": ingress}), "NetworkPolicy")["spec"]["ingress"]
    closed = only(rendered({**ON, "networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]["ingress"]

    assert [each["from"] for each in rules if each["ports"] == [{"port": "grpc"}]] == [FRIENDS]
    assert {"port": "grpc"} not in [port for each in closed for port in each["ports"]]


def test_canary_has_the_port_too() -> None:
    values: Values = {
        "model": {"uri": "models:/churn/7"},
        "mlflow": {"trackingUri": "http://mlflow:5000"},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        "canary": {"enabled": True, "model": {"uri": "models:/churn/8"}},
    }

    services = [each["spec"]["ports"] for each in rendered({**values, **ON}) if each["kind"] == "Service"]

    assert sum(any(port["name"] == "grpc" for port in ports) for ports in services) == 2


def test_port_of_http_is_refused() -> None:
    with pytest.raises(HelmError) as refused:
        rendered({"api": {"grpc": {"enabled": True, "port": 80}}})

    assert "api.grpc.port=80 is service.port too: set another port, such as 8003." in str(refused.value)


def test_extra_variables_must_not_set_the_port() -> None:
    with pytest.raises(HelmError) as refused:
        rendered({"extraEnv": [{"name": "MODEL_SERVICE_GRPC_PORT", "value": "9"}]})

    assert "extraEnv sets MODEL_SERVICE_GRPC_PORT, which the chart sets itself" in str(refused.value)


def test_notes_show_the_port(tmp_path: Path) -> None:
    chart = tmp_path / "model-service"
    shutil.copytree(MODEL_SERVICE, chart)
    for path in (chart / "templates").rglob("*.yaml"):
        path.unlink()
    show_notes(chart)

    text = only(render(chart, {**MINIMAL, **ON}), "ConfigMap")["data"]["text"]
    without = only(render(chart, MINIMAL), "ConfigMap")["data"]["text"]

    assert "port-forward service/demo-model-service 8003:8003" in text
    assert "gRPC" not in without
