"""Tests of the HorizontalPodAutoscaler and the KEDA ScaledObject."""

from typing import Any

import pytest

from tests.charts.harness import kinds, only, rendered
from tools.charts import Object, Values

PODS_METRIC: Object = {
    "type": "Pods",
    "pods": {"metric": {"name": "requests_in_flight"}, "target": {"type": "AverageValue", "averageValue": "8"}},
}
MEMORY_METRIC: Object = {
    "type": "Resource",
    "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 80}},
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
        ({"metrics": [MEMORY_METRIC]}, {"cpu": 70, "memory": 80}),
        ({"targetCPUUtilizationPercentage": None, "metrics": [MEMORY_METRIC]}, {"memory": 80}),
    ],
)
def test_autoscaler_has_the_given_targets(values: Values, targets: dict[str, Any]) -> None:
    metrics = [metric["resource"] for metric in autoscaler(values)["metrics"]]

    assert {metric["name"]: metric["target"]["averageUtilization"] for metric in metrics} == targets


def test_autoscaler_accepts_custom_metrics() -> None:
    assert autoscaler({"metrics": [PODS_METRIC]})["metrics"][1:] == [PODS_METRIC]
    assert autoscaler({"metrics": [PODS_METRIC], "targetCPUUtilizationPercentage": None})["metrics"] == [PODS_METRIC]


def scaled(keda: Values | None = None, **settings: Any) -> list[Object]:
    """Return the objects for settings under `autoscaling.keda` and `autoscaling`."""
    own = {"enabled": True, "triggers": [TRIGGER], **(keda or {})}
    return rendered({"autoscaling": {"enabled": True, "keda": own, **settings}})


def test_scaled_object_replaces_replicas_and_autoscaler() -> None:
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


def test_scaled_object_has_behavior_fallback_and_annotations() -> None:
    behavior, fallback = {"scaleDown": {"selectPolicy": "Disabled"}}, {"failureThreshold": 3, "replicas": 4}

    scaler = only(scaled({"fallback": fallback}, behavior=behavior, annotations={"note": "x"}), "ScaledObject")

    assert scaler["spec"]["advanced"] == {"horizontalPodAutoscalerConfig": {"behavior": behavior}}
    assert scaler["spec"]["fallback"] == fallback
    assert scaler["metadata"]["annotations"] == {"note": "x"}


def test_both_autoscalers_share_bounds_and_annotations() -> None:
    shared: Values = {"minReplicas": 3, "maxReplicas": 4, "annotations": {"note": "x"}}

    autoscaler = only(rendered({"autoscaling": {"enabled": True, **shared}}), "HorizontalPodAutoscaler")
    scaler = only(scaled(**shared), "ScaledObject")

    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (3, 4)
    assert (scaler["spec"]["minReplicaCount"], scaler["spec"]["maxReplicaCount"]) == (3, 4)
    assert autoscaler["metadata"]["annotations"] == scaler["metadata"]["annotations"] == {"note": "x"}


def test_scaled_object_absent_by_default() -> None:
    assert "ScaledObject" not in kinds(rendered())
