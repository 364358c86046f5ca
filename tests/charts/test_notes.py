"""What Helm says after an install: how to use the release, and in plain words what it lacks."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.charts.harness import MINIMAL, MODEL_SERVICE, Values, only, render, show_notes

UNSEEN = "A Prometheus that selects by labels sees none of it while"


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chart that renders its notes as an object: `helm template` leaves them out."""
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

    assert "file:///models/example is served by Service demo-model-service in namespace models." in text
    assert "kubectl -n models port-forward service/demo-model-service 8000:8080" in text
    assert "app.check predict" in text
    assert "helm -n models test demo" in text
    assert "helm -n models test" not in notes(chart, {"tests": {"enabled": False}})


def test_namespace_override_is_where_the_pods_are(chart: Path) -> None:
    text = notes(chart, {"namespaceOverride": "risk"})

    assert "kubectl -n risk rollout status" in text
    assert "helm -n models test demo" in text, "Helm knows the release by its own namespace"


def test_missing_scrape_is_said(chart: Path) -> None:
    text = notes(chart, {})

    assert "Prometheus does not scrape it yet: set serviceMonitor.enabled=true." in text
    assert "kubectl get crd servicemonitors.monitoring.coreos.com" in text
    assert UNSEEN not in text


def test_alerts_without_a_scrape_are_said(chart: Path) -> None:
    assert "ModelServiceDown fires after 5m" in notes(chart, {"prometheusRule": {"enabled": True}})
    assert "ModelServiceDown" not in notes(chart, {})


def test_missing_alerts_are_said(chart: Path) -> None:
    scraped = {"enabled": True, "additionalLabels": {"release": "kps"}}

    assert "Nobody is told when it fails" in notes(chart, {"serviceMonitor": scraped})
    assert "Nobody is told when it fails" not in notes(
        chart, {"serviceMonitor": scraped, "prometheusRule": {"enabled": True}}
    )


@pytest.mark.parametrize(
    ("labelled", "named"),
    [
        ([], "prometheusRule.additionalLabels and serviceMonitor.additionalLabels are empty"),
        (["serviceMonitor"], "prometheusRule.additionalLabels is empty"),
        (["serviceMonitor", "prometheusRule"], ""),
    ],
)
def test_missing_labels_are_said(chart: Path, labelled: list[str], named: str) -> None:
    labels = {key: {"release": "kps"} if key in labelled else {} for key in ("serviceMonitor", "prometheusRule")}
    values = {key: {"enabled": True, "additionalLabels": own} for key, own in labels.items()}

    text = notes(chart, values)

    assert (f"{UNSEEN} {named}" in text) if named else (UNSEEN not in text)


def test_sidecar_of_the_dashboard_is_named(chart: Path) -> None:
    text = notes(chart, {"grafanaDashboards": {"enabled": True, "namespace": "grafana"}})

    assert "watches the label grafana_dashboard=1 in namespace grafana." in text


def test_closed_network_policy_is_said(chart: Path) -> None:
    caller = {"enabled": True, "ingressFrom": [{"podSelector": {}}]}

    assert "No pod may call the service" in notes(chart, {"networkPolicy": {"enabled": True}})
    assert "No pod may call the service" not in notes(chart, {"networkPolicy": caller})
