"""Tests of NOTES.txt: commands for the release, and warnings about missing settings."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.charts.harness import MINIMAL, only, show_notes
from tools.charts import MODEL_SERVICE, Values, render

UNLABELLED = "monitoring.labels is empty."


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the chart that renders its notes as an object, because `helm template` omits them."""
    copy = tmp_path_factory.mktemp("notes") / "model-service"
    shutil.copytree(MODEL_SERVICE, copy)
    for path in (copy / "templates").rglob("*.yaml"):
        path.unlink()
    show_notes(copy)
    return copy


def notes(chart: Path, values: Values) -> str:
    """Return the notes of a release."""
    text: Any = only(render(chart, {**MINIMAL, **values}), "ConfigMap")["data"]["text"]
    return str(text)


def test_commands_name_the_service(chart: Path) -> None:
    text = notes(chart, {"service": {"port": 8080}})

    assert "Service demo-model-service in namespace models serves file:///models/example." in text
    assert "kubectl -n models port-forward service/demo-model-service 8000:8080" in text
    assert "app.tools.check predict" in text
    assert "helm -n models test demo" in text
    assert "helm -n models test" not in notes(chart, {"tests": {"enabled": False}})


def test_commands_use_the_namespace_override(chart: Path) -> None:
    text = notes(chart, {"namespaceOverride": "risk"})

    assert "kubectl -n risk rollout status" in text
    assert "helm -n models test demo" in text, "Helm stores the release in its own namespace"


def test_canary_has_its_weight_and_both_ways_out(chart: Path) -> None:
    text = notes(chart, {"canary": {"enabled": True, "model": {"uri": "models:/churn/8"}}})

    assert "The canary models:/churn/8 answers 10 % of the requests" in text
    assert "set only canary.enabled=false" in text
    assert "kubectl -n models rollout status deployment/demo-model-service-canary" in text
    assert "canary" not in notes(chart, {})


def test_missing_service_monitor_is_reported(chart: Path) -> None:
    text = notes(chart, {})

    assert "Prometheus does not scrape the service: set monitoring.serviceMonitor.enabled=true." in text
    assert "kubectl get crd servicemonitors.monitoring.coreos.com" in text
    assert UNLABELLED not in text


def test_alerts_without_a_service_monitor_are_reported(chart: Path) -> None:
    assert "ModelServiceDown fires" in notes(chart, {"monitoring": {"prometheusRule": {"enabled": True}}})
    assert "ModelServiceDown" not in notes(chart, {})


def test_missing_alerts_are_reported(chart: Path) -> None:
    scraped = {"serviceMonitor": {"enabled": True}}

    assert "No alerts are configured" in notes(chart, {"monitoring": scraped})
    assert "No alerts are configured" not in notes(
        chart, {"monitoring": {**scraped, "prometheusRule": {"enabled": True}}}
    )


@pytest.mark.parametrize("kind", ["serviceMonitor", "prometheusRule"])
def test_missing_labels_are_reported(chart: Path, kind: str) -> None:
    switched_on = {kind: {"enabled": True}}

    assert UNLABELLED in notes(chart, {"monitoring": switched_on})
    assert UNLABELLED not in notes(chart, {"monitoring": {**switched_on, "labels": {"release": "kps"}}})


def test_pages_are_listed_unless_they_are_off(chart: Path) -> None:
    assert "http://localhost:8000/docs" in notes(chart, {})
    assert "http://localhost:8000/docs" not in notes(chart, {"api": {"pages": {"enabled": False}}})


def test_label_and_namespace_of_the_sidecar_are_shown(chart: Path) -> None:
    text = notes(chart, {"monitoring": {"dashboards": {"enabled": True, "namespace": "grafana"}}})

    assert "watches the label grafana_dashboard=1 in namespace grafana." in text


def test_release_that_follows_an_alias_names_its_state(chart: Path) -> None:
    followed = {"model": {"uri": "models:/churn@champion", "follow": {"enabled": True}}}

    assert "The pods follow the alias" in notes(chart, {**followed, "mlflow": {"trackingUri": "http://mlflow:5000"}})
    assert "The pods follow the alias" not in notes(chart, {})


def test_challenger_is_named_with_its_state(chart: Path) -> None:
    values = {"challenger": {"uri": "models:/churn@next"}, "mlflow": {"trackingUri": "http://mlflow:5000"}}

    assert "The challenger models:/churn@next predicts live requests" in notes(chart, values)
    assert "The challenger" not in notes(chart, {})


def test_network_policy_without_clients_is_reported(chart: Path) -> None:
    caller = {"enabled": True, "ingressFrom": [{"podSelector": {}}]}

    assert "Only Prometheus, the ingress controller and the test can reach the service" in notes(
        chart, {"networkPolicy": {"enabled": True}}
    )
    assert "Only Prometheus, the ingress controller and the test can reach the service" not in notes(
        chart, {"networkPolicy": caller}
    )


def test_prometheus_of_the_network_policy_is_shown(chart: Path) -> None:
    scraped = {"monitoring": {"serviceMonitor": {"enabled": True}}, "networkPolicy": {"enabled": True}}
    peers = [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]

    assert '{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}' in notes(chart, scraped)
    own = notes(chart, {**scraped, "networkPolicy": {"enabled": True, "prometheusFrom": peers}})
    assert '[{"podSelector":{"matchLabels":{"app":"prometheus"}}}]' in own
    assert "admits Prometheus" not in notes(chart, {"networkPolicy": {"enabled": True}})


def test_outside_addresses_are_shown(chart: Path) -> None:
    gateway = {"enabled": True, "parentRefs": [{"name": "public"}]}

    assert "through the gateway public:\n  http(s)://churn.example\n" in notes(
        chart, {"httpRoute": {**gateway, "hostnames": ["churn.example"]}}
    )
    assert "kubectl -n models get httproute demo-model-service" in notes(chart, {"httpRoute": gateway})
    assert "load balancer has an address:\n  kubectl -n models get service demo-model-service" in notes(
        chart, {"service": {"type": "LoadBalancer"}}
    )
    assert "outside" not in notes(chart, {})


def test_bucket_that_a_policy_closes_is_reported(chart: Path) -> None:
    trained: Values = {
        "model": {"uri": "models:/churn@champion"},
        "mlflow": {"trackingUri": "http://mlflow:5000"},
        "training": {"enabled": True},
    }
    policy = {"enabled": True}

    assert "allow the bucket in networkPolicy.extraEgress" in notes(chart, {**trained, "networkPolicy": policy})
    for other in ({"enabled": False}, {**policy, "extraEgress": [{"ports": [{"port": 443}]}]}):
        assert "the bucket" not in notes(chart, {**trained, "networkPolicy": other})
