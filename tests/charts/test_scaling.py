"""Who owns the number of pods, and by what it is set."""

from typing import Any

import pytest

from tests.charts.harness import Object, Values, only, rendered

PODS_METRIC: Object = {
    "type": "Pods",
    "pods": {"metric": {"name": "requests_in_flight"}, "target": {"type": "AverageValue", "averageValue": "8"}},
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
