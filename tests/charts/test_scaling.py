"""Tests of the HorizontalPodAutoscaler and the KEDA ScaledObject."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.harness import Promtool, kinds, only, rendered
from tests.charts.schemas import problems
from tests.charts.test_fleet import evaluated
from tools.charts import Object, Values
from tools.cluster.cache import ROOT

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


def documented() -> Values:
    """Return the values that docs/how-to/autoscaling.md shows for a release `churn` in the namespace `models`."""
    page = (ROOT / "docs" / "how-to" / "autoscaling.md").read_text()
    [block] = re.findall(r"```yaml\n(.+?)```", page, re.DOTALL)
    values: Values = yaml.safe_load(block)
    return values


def test_documented_trigger_is_valid() -> None:
    objects = rendered(documented(), release="churn")
    [trigger] = only(objects, "ScaledObject")["spec"]["triggers"]

    assert problems(objects) == []
    assert f'job="{only(objects, "Service")["metadata"]["name"]}"' in trigger["metadata"]["query"]


@pytest.mark.parametrize(
    ("running", "waiting", "pods"),
    [
        ((0, 0), (0, 0), 0),
        ((10, 10), (0, 0), 1),  # of 32 slots each: one pod would do
        ((22, 22), (0, 0), 2),
        ((32, 32), (0, 0), 3),
        ((32, 32), (64, 0), 6),  # requests in the queue of one pod count as well
    ],
)
def test_documented_trigger_follows_the_limiter(
    promtool: Promtool, running: tuple[int, int], waiting: tuple[int, int], pods: int, tmp_path: Path
) -> None:
    """KEDA's desired number of pods is the value divided by the threshold, rounded up."""
    [trigger] = documented()["autoscaling"]["keda"]["triggers"]
    labels = 'namespace="models",job="churn-model-service"'
    inputs = []
    for pod, (slots, queue) in enumerate(zip(running, waiting, strict=True)):
        values = {"http_server_requests_in_progress": slots + queue, "model_concurrency_limit": 32}
        inputs += [
            {"series": f'{name}{{{labels},instance="{pod}"}}', "values": f"{value}x10"}
            for name, value in values.items()
        ]
    share = (sum(running) + sum(waiting)) / 32
    case = {"expr": trigger["metadata"]["query"], "eval_time": "10m", "exp_samples": [{"labels": "{}", "value": share}]}

    assert "SUCCESS" in evaluated(promtool, [case], inputs, tmp_path)
    assert math.ceil(share / float(trigger["metadata"]["threshold"])) == pods
