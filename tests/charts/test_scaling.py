"""Who owns the number of pods, and by what it is set."""

from typing import Any

import pytest

from tests.charts.harness import Object, Values, kinds, only, rendered

PODS_METRIC: Object = {
    "type": "Pods",
    "pods": {"metric": {"name": "requests_in_flight"}, "target": {"type": "AverageValue", "averageValue": "8"}},
}
TRIGGER: Object = {
    "type": "prometheus",
    "metadata": {
        "serverAddress": "http://prometheus-operated.monitoring:9090",
        "query": 'sum(rate(http_server_requests_total{app_name="demo-model-service"}[1m]))',
        "threshold": "50",
    },
}


def autoscaler(values: Values) -> Object:
    """Return the spec of the HorizontalPodAutoscaler for values under `autoscaling`."""
    spec: Object = only(rendered({"autoscaling": {"enabled": True, **values}}), "HorizontalPodAutoscaler")["spec"]
    return spec


@pytest.mark.parametrize(
    ("values", "targets"),
    [
        ({}, {"cpu": 70}),
        ({"targetMemoryUtilizationPercentage": 80}, {"cpu": 70, "memory": 80}),
        ({"targetCPUUtilizationPercentage": None, "targetMemoryUtilizationPercentage": 80}, {"memory": 80}),
    ],
)
def test_autoscaler_aims_at_the_given_targets(values: Values, targets: dict[str, Any]) -> None:
    metrics = [metric["resource"] for metric in autoscaler(values)["metrics"]]

    assert {metric["name"]: metric["target"]["averageUtilization"] for metric in metrics} == targets


def test_autoscaler_takes_metrics_of_the_user() -> None:
    assert autoscaler({"metrics": [PODS_METRIC]})["metrics"][1:] == [PODS_METRIC]
    assert autoscaler({"metrics": [PODS_METRIC], "targetCPUUtilizationPercentage": None})["metrics"] == [PODS_METRIC]


def scaled(**settings: Any) -> list[Object]:
    """Return the objects for settings under `keda`."""
    return rendered({"keda": {"enabled": True, "triggers": [TRIGGER], **settings}})


def test_scaled_object_takes_the_place_of_replicas_and_autoscaler() -> None:
    objects = scaled()

    spec = only(objects, "ScaledObject")["spec"]

    assert "replicas" not in only(objects, "Deployment")["spec"]
    assert "HorizontalPodAutoscaler" not in kinds(objects)
    assert spec == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-model-service"},
        "minReplicaCount": 2,
        "maxReplicaCount": 10,
        "pollingInterval": 30,
        "triggers": [TRIGGER],
    }


def test_scaled_object_takes_speed_fallback_and_annotations() -> None:
    behavior, fallback = {"scaleDown": {"selectPolicy": "Disabled"}}, {"failureThreshold": 3, "replicas": 4}

    scaler = only(scaled(behavior=behavior, fallback=fallback, annotations={"note": "x"}), "ScaledObject")

    assert scaler["spec"]["advanced"] == {"horizontalPodAutoscalerConfig": {"behavior": behavior}}
    assert scaler["spec"]["fallback"] == fallback
    assert scaler["metadata"]["annotations"] == {"note": "x"}


def test_scaled_object_absent_by_default() -> None:
    assert "ScaledObject" not in kinds(rendered())
