"""Tests that rendered objects are valid by the strict schemas of Kubernetes and of the CRDs."""

from pathlib import Path

import pytest

from tests.charts.harness import kinds, rendered
from tests.charts.schemas import KUBERNETES_VERSIONS, problems, problems_of_text
from tests.charts.strategies import merged
from tools.charts import MLFLOW, MODEL_SERVICE, Object, Values, render, template
from tools.generate.charts import CASES, MLFLOW_CASES

# Every key that changes an object, in as few releases as possible: the two autoscalers exclude each other.
EVERYTHING: Values = {
    "model": {"uri": "models:/churn@champion"},
    "mlflow": {
        "trackingUri": "https://mlflow.ml.svc",
        "existingSecret": "login",
        "caBundle": {"existingConfigMap": "ca"},
    },
    "autoscaling": {
        "enabled": True,
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
    "api": {"auth": {"existingSecret": "keys"}, "feedback": {"existingSecret": "feedback"}},
    "logging": {"payload": {"sampleRatio": 0.1, "redact": ["age"]}},
    "monitoring": {
        "namespace": "monitoring",
        "labels": {"release": "kps"},
        "serviceMonitor": {
            "enabled": True,
            "relabelings": [{"action": "labeldrop", "regex": "pod"}],
            "metricRelabelings": [{"action": "labeldrop", "regex": "pod"}],
        },
        "prometheusRule": {
            "enabled": True,
            "additionalRuleLabels": {"team": "risk"},
            "disabledAlerts": ["ModelVersionSkew"],
            "extraGroups": [{"name": "mine", "rules": [{"record": "a:b", "expr": "vector(1)"}]}],
            "for": {"ModelServiceDown": "1m"},
        },
        "dashboards": {"enabled": True, "namespace": "grafana"},
        "tracing": {"otlpEndpoint": "http://collector.observability.svc:4318"},
    },
    "podDisruptionBudget": {"minAvailable": "50%", "maxUnavailable": None},
    "deployment": {"annotations": {"a": "b"}},
    "pod": {
        "labels": {"tier": "gold"},
        "annotations": {"a": "b"},
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["mlflow.internal"]}],
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "containers": [{"name": "proxy", "image": "proxy:1"}],
        "initContainers": [{"name": "wait", "image": "wait:1"}],
    },
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "commonAnnotations": {"owner": "Ünïcode ✓"},
    "commonLabels": {"team": "risk"},
}
KEDA: Values = {
    "autoscaling": {
        "enabled": True,
        "behavior": {"scaleUp": {"stabilizationWindowSeconds": 5}},
        "annotations": {"autoscaling.keda.sh/paused": "false"},
        "keda": {
            "enabled": True,
            "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}],
            "fallback": {"failureThreshold": 3, "replicas": 4},
        },
    }
}
# Training and batch scoring as one-time Jobs, CronJobs and a TrainJob.
JOBS: Values = {
    "model": {"uri": "models:/churn@champion"},
    "mlflow": {
        "trackingUri": "https://mlflow.ml.svc",
        "existingSecret": "login",
        "caBundle": {"existingConfigMap": "ca"},
    },
    "networkPolicy": {"enabled": True, "extraEgress": [{"ports": [{"port": 443}]}]},
    "training": {
        "enabled": True,
        "settings": {"train": {"data": "s3://lake/churn/", "target": "left"}, "promote": {"margin": 0.001}},
        "workers": 3,
        "checkpoints": {"existingClaim": "checkpoints"},
        "extraEnvFrom": [{"secretRef": {"name": "s3"}}],
        "extraEnv": [{"name": "AWS_REGION", "value": "eu-west-1"}],
        "extraVolumes": [{"name": "data", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}],
        "rerun": "2026-11-24",
    },
    "batch": {
        "enabled": True,
        "data": "s3://lake/customers/",
        "output": "/batch/scores",
        "existingClaim": "scores",
        "model": "models:/churn/7",
        "keep": ["customer"],
        "extraEnvFrom": [{"secretRef": {"name": "s3"}}],
        "extraEnv": [{"name": "AWS_REGION", "value": "eu-west-1"}],
    },
    "pod": {"priorityClassName": "high", "nodeSelector": {"disk": "ssd"}, "labels": {"sidecar": "none"}},
}
_NIGHTLY: Values = {
    "schedule": "0 3 * * 1-5",
    "timeZone": "Europe/Lisbon",
    "suspend": True,
    "ttlSecondsAfterFinished": 86400,
}
SCHEDULED: Values = {**JOBS, "training": {**JOBS["training"], **_NIGHTLY}, "batch": {**JOBS["batch"], **_NIGHTLY}}
TRAIN_JOB: Values = {
    **JOBS,
    "training": {
        **JOBS["training"],
        "trainJob": {"enabled": True},
        "verify": {"useTrainingImage": True},
        "extraEnvFrom": [],
    },
    "pod": {**JOBS["pod"], "priorityClassName": ""},
}
NULLS: Values = {"pod": {"securityContext": None}, "securityContext": None, "resources": {"limits": None}}


PLATFORM: Values = {
    "global": {"imageRegistry": "mirror.example", "imagePullSecrets": ["mirror"]},
    "service": {
        "type": "LoadBalancer",
        "ipFamilyPolicy": "PreferDualStack",
        "ipFamilies": ["IPv6", "IPv4"],
        "nodePort": 30080,
        "loadBalancerClass": "internal",
        "externalTrafficPolicy": "Local",
        "trafficDistribution": "PreferClose",
        "labels": {"team": "risk"},
    },
    "ingress": {"enabled": True, "hosts": [{"host": "a.example"}], "labels": {"team": "risk"}},
    "monitoring": {
        "serviceMonitor": {
            "enabled": True,
            "scheme": "https",
            "tlsConfig": {"insecureSkipVerify": True},
            "podTargetLabels": ["team"],
        }
    },
    "pod": {"schedulerName": "volcano"},
    "lifecycle": {"postStart": {"exec": {"command": ["true"]}}},
    "emptyDirSizeLimits": {"cache": "2Gi", "tmp": "256Mi"},
    "tests": {
        "pod": {"annotations": {"a": "b"}, "affinity": {"nodeAffinity": {}}},
        "resources": {"limits": {"cpu": 1}},
    },
}


CANARY: Values = merged(
    EVERYTHING,
    {
        "canary": {"enabled": True, "model": {"uri": "models:/churn/8"}},
        "httpRoute": {"canary": {"service": "", "weight": 0}},
    },
)
POD_MONITOR: Values = merged(PLATFORM, {"monitoring": {"serviceMonitor": {"usePodMonitor": True}}})

SAMPLES = {
    "default": {},
    "everything": EVERYTHING,
    "canary": CANARY,
    "keda": KEDA,
    "nulls": NULLS,
    "platform": PLATFORM,
    "pod monitor": POD_MONITOR,
    "jobs": JOBS,
    "scheduled": SCHEDULED,
    "trainjob": TRAIN_JOB,
}


@pytest.fixture(params=KUBERNETES_VERSIONS)
def kubernetes(request: pytest.FixtureRequest) -> str:
    """Kubernetes version whose API validates the objects."""
    return str(request.param)


@pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES)
def test_objects_are_valid(values: Values, kubernetes: str) -> None:
    assert problems(rendered(values), kubernetes) == []


@pytest.mark.parametrize("case", CASES + MLFLOW_CASES, ids=lambda path: path.stem)
def test_case_is_valid(case: Path, kubernetes: str) -> None:
    manifests = template(("demo", str(case.parents[1]), "--values", str(case)), "{}")

    assert problems_of_text(manifests, kubernetes) == []


def test_mlflow_is_valid(kubernetes: str) -> None:
    assert problems(render(MLFLOW, {"monitoring": {"serviceMonitor": {"enabled": True}}}), kubernetes) == []


def test_every_kind_of_the_chart_is_checked() -> None:
    names = {path.stem for path in (MODEL_SERVICE / "templates").rglob("[!_]*.yaml") if path.parent.name != "tests"}
    names -= {"canary", "extraobjects", "validate"}

    checked = [kind for values in SAMPLES.values() for kind in kinds(rendered(values))]

    assert names <= {kind.lower() for kind in checked}


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (
            {"apiVersion": "v1", "kind": "Service", "spec": {"prots": []}},
            "Service: - at '/spec': additional properties 'prots' not allowed",
        ),
        (
            {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": {"scaleTargetRef": {"name": "a"}}},
            "ScaledObject: - at '/spec': missing property 'triggers'",
        ),
        ({"apiVersion": "v1", "kind": "Pot"}, "Pot: could not find schema for Pot"),
    ],
)
def test_invalid_object_is_rejected(item: Object, problem: str) -> None:
    assert problems([item]) == [problem]


def test_duplicate_key_is_rejected() -> None:
    (problem,) = problems_of_text("apiVersion: v1\nkind: Service\nspec: {}\nspec: {}\n")

    assert 'key "spec" already set' in problem
