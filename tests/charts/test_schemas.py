"""What the charts render is what the API knows: checked strictly against Kubernetes' and the CRDs' own definitions."""

from pathlib import Path

import pytest

from tests.charts.generated import CASES
from tests.charts.harness import MLFLOW, MODEL_SERVICE, Object, Values, kinds, render, rendered
from tests.charts.schemas import OLDEST_KUBERNETES, problems
from tests.cluster.programs import KUBERNETES_VERSION

# Each key that puts something into an object, in as few releases as may have it: two autoscalers exclude each other.
EVERYTHING: Values = {
    "model": {"uri": "models:/churn@champion"},
    "mlflow": {
        "trackingUri": "https://mlflow.ml.svc",
        "existingSecret": "login",
        "caBundle": {"existingConfigMap": "ca"},
    },
    "autoscaling": {
        "enabled": True,
        "targetMemoryUtilizationPercentage": 80,
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "requests_in_flight"},
                    "target": {"type": "AverageValue", "averageValue": "8"},
                },
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    },
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "hosts": [{"host": "churn.example"}],
        "tls": [{"hosts": ["churn.example"], "secretName": "churn"}],
    },
    "httpRoute": {
        "enabled": True,
        "parentRefs": [{"name": "public", "namespace": "gateways"}],
        "hostnames": ["churn.example"],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "timeouts": {"request": "10s"}}],
        "canary": {"service": "churn-next", "weight": 10},
    },
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "controllerFrom": [{"namespaceSelector": {}}],
        "extraEgress": [{"ports": [{"port": 443}]}],
    },
    "serviceMonitor": {
        "enabled": True,
        "namespace": "monitoring",
        "additionalLabels": {"release": "kps"},
        "relabelings": [{"action": "labeldrop", "regex": "pod"}],
        "metricRelabelings": [{"action": "labeldrop", "regex": "pod"}],
    },
    "podDisruptionBudget": {"minAvailable": "50%", "maxUnavailable": None},
    "imagePullSecrets": [{"name": "pull"}],
    "priorityClassName": "high",
    "runtimeClassName": "gvisor",
    "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["mlflow.internal"]}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "extraEnv": [{"name": "MODEL_SERVICE_ROOT_PATH", "value": "/churn"}],
    "envFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "extraContainers": [{"name": "proxy", "image": "proxy:1"}],
    "extraInitContainers": [{"name": "wait", "image": "wait:1"}],
    "commonAnnotations": {"owner": "Ünïcode ✓"},
    "commonLabels": {"team": "risk"},
}
KEDA: Values = {
    "keda": {
        "enabled": True,
        "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}],
        "fallback": {"failureThreshold": 3, "replicas": 4},
        "behavior": {"scaleUp": {"stabilizationWindowSeconds": 5}},
        "annotations": {"autoscaling.keda.sh/paused": "false"},
    }
}
NULLS: Values = {"podSecurityContext": None, "securityContext": None, "resources": {"limits": None}}


def refused(objects: list[Object], kubernetes: str = KUBERNETES_VERSION) -> list[str]:
    """Return what the API of a Kubernetes release would refuse."""
    return [problem for item in objects for problem in problems(item, kubernetes)]


@pytest.mark.parametrize("values", [{}, EVERYTHING, KEDA, NULLS], ids=["default", "everything", "keda", "nulls"])
def test_objects_are_valid(values: Values) -> None:
    assert refused(rendered(values)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case_is_valid(case: Path) -> None:
    assert refused(render(MODEL_SERVICE, files=[case])) == []


def test_mlflow_is_valid() -> None:
    assert refused(render(MLFLOW, {"serviceMonitor": {"enabled": True}})) == []


@pytest.mark.long  # fetches one more Kubernetes release, 20 MB
@pytest.mark.parametrize("values", [{}, EVERYTHING, KEDA], ids=["default", "everything", "keda"])
def test_objects_are_valid_on_the_oldest_kubernetes(values: Values) -> None:
    assert refused(rendered(values), OLDEST_KUBERNETES) == []


def test_every_kind_of_the_chart_is_checked() -> None:
    names = {path.stem for path in (MODEL_SERVICE / "templates").glob("*.yaml")} - {"extraobjects", "validate"}

    checked = kinds(rendered(EVERYTHING)) + kinds(rendered(KEDA))

    assert names <= {kind.lower() for kind in checked}


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (
            {"apiVersion": "v1", "kind": "Service", "spec": {"prots": []}},
            "Service.spec: Additional properties are not allowed ('prots' was unexpected)",
        ),
        (
            {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": {"scaleTargetRef": {"name": "a"}}},
            "ScaledObject.spec: 'triggers' is a required property",
        ),
    ],
)
def test_wrong_object_is_refused(item: Object, problem: str) -> None:
    assert problems(item) == [problem]


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(LookupError, match="no definition of Pot in v1"):
        problems({"apiVersion": "v1", "kind": "Pot"})
