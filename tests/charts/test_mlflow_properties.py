"""Property tests of the MLflow subchart: any values render valid objects or fail with a message of ours.

Errors of Go's template engine never reach the user.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.charts.harness import only
from tests.charts.schemas import problems
from tests.charts.strategies import keys, merged, spoiled
from tests.charts.test_properties import ERRORS_OF_GO, ODD
from tools.charts import MLFLOW, HelmError, Values, render

SCHEMA = json.loads((MLFLOW / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((MLFLOW / "values.yaml").read_text())
MESSAGE = "execution error at (mlflow/templates/validate.yaml"
# Every key that changes an object.
EVERYTHING: Values = {
    "replicaCount": 2,
    "mlflow": {
        "backendStoreUriFrom": {"secretKeyRef": {"name": "db", "key": "uri"}},
        "artifactsDestination": "s3://models/mlflow",
    },
    "s3": {"existingSecret": "keys", "endpointUrl": "http://s3:9000", "region": "eu-central-1"},
    "storage": {"enabled": False},
    "auth": {
        "enabled": True,
        "existingSecret": "login",
        "databaseUriFrom": {"secretKeyRef": {"name": "db", "key": "users"}},
    },
    "server": {"extraAllowedHosts": ["ml.example"], "corsAllowedOrigins": ["https://ml.example"]},
    "ingress": {"enabled": True, "className": "nginx", "hosts": [{"host": "a.example"}]},
    "httpRoute": {
        "enabled": True,
        "parentRefs": [{"name": "public"}],
        "hostnames": ["b.example"],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
    },
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"podSelector": {}}],
        "controllerFrom": [{"namespaceSelector": {}}],
        "extraEgress": [{"ports": [{"port": 5432}]}],
    },
    "garbageCollection": {"enabled": True},
    "monitoring": {
        "labels": {"release": "kps"},
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {
            "enabled": True,
            "disabledAlerts": ["MLflowSlow"],
            "extraGroups": [{"name": "mine", "rules": [{"record": "a:b", "expr": "vector(1)"}]}],
            "for": {"MLflowDown": "1m"},
        },
        "dashboards": {"enabled": True},
    },
    "deployment": {"annotations": {"a": "b"}, "strategy": {"type": "Recreate"}},
    "pod": {
        "labels": {"tier": "gold"},
        "annotations": {"a": "b"},
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "initContainers": [{"name": "wait", "image": "wait:1"}],
        "containers": [{"name": "proxy", "image": "proxy:1"}],
    },
    "extraEnv": [{"name": "AWS_CA_BUNDLE", "value": "/ca.crt"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "commonAnnotations": {"owner": "Ünïcode ✓"},
    "commonLabels": {"team": "platform"},
}  # fmt: skip
VALIDATOR = Draft7Validator(SCHEMA)
# Keys without a sensible behaviour when absent.
REQUIRED = {
    "image", "image.repository", "server", "server.workers", "server.clusterDomain", "service", "service.port",
    "storage.size", "storage.accessMode", "podDisruptionBudget.maxUnavailable", "garbageCollection.schedule",
    "auth.usernameKey", "auth.passwordKey", "auth.secretKeyKey", "auth.defaultPermission", "auth.cacheTtlSeconds",
    "monitoring.prometheusRule.thresholds", "monitoring.prometheusRule.thresholds.errorRatio",
    "monitoring.prometheusRule.thresholds.latencySeconds", "monitoring.prometheusRule.thresholds.volumeFreeRatio",
}  # fmt: skip


def outcome(values: Values) -> str:
    """Render values that the schema accepts and return the problems of the outcome, or "" if there are none."""
    try:
        return "; ".join(problems(render(MLFLOW, values)))
    except HelmError as refused:
        text = str(refused)
        return "" if MESSAGE in text and not any(word in text for word in ERRORS_OF_GO) else f"{values}: {text}"
    except yaml.YAMLError as broken:
        return f"{values}: invalid YAML: {broken}"


def spoils(base: Values, odd: list[Any]) -> list[dict[str, Any]]:
    """Return one set of values per changed key, without those that the schema rejects."""
    found = [spoiled(base, path, value) for path in keys(SCHEMA) for value in odd]
    return [values for values in found if VALIDATOR.is_valid(merged(DEFAULTS, values))]


def test_everything_at_once_is_valid() -> None:
    assert outcome(EVERYTHING) == ""


@pytest.mark.parametrize(
    "base", [pytest.param({}, marks=pytest.mark.long, id="default"), pytest.param(EVERYTHING, id="everything")]
)
def test_null_deletes_every_optional_key(base: Values) -> None:
    cases = spoils(base, [None])

    assert len(cases) >= 125
    with ThreadPoolExecutor(max_workers=2) as pool:
        assert [problem for problem in pool.map(outcome, cases) if problem] == []


def test_null_of_a_required_key_is_rejected_by_name() -> None:
    refused = [path for path in keys(SCHEMA) if not VALIDATOR.is_valid(merged(DEFAULTS, spoiled({}, path, None)))]

    assert {".".join(path) for path in refused} == REQUIRED
    for *above, key in refused[:3]:
        with pytest.raises(HelmError, match=f"missing property '{key}'"):
            render(MLFLOW, spoiled({}, (*above, key), None))


@pytest.mark.parametrize(
    ("key", "gone"),
    [
        ("livenessProbe", "livenessProbe"),
        ("startupProbe", "startupProbe"),
        ("replicaCount", "replicas"),
        ("deployment", "revisionHistoryLimit"),
        ("deployment.revisionHistoryLimit", "revisionHistoryLimit"),
        ("pod", "preStop"),
        ("pod.preStopSleepSeconds", "preStop"),
        ("pod.terminationGracePeriodSeconds", "terminationGracePeriodSeconds"),
        ("pod.topologySpreadConstraints", "topologySpreadConstraints"),
        ("pod.securityContext", "runAsNonRoot"),
        ("securityContext", "readOnlyRootFilesystem"),
        ("resources", "512Mi"),
        ("prepare", "PREPARE_TIMEOUT_SECONDS"),
    ],
)
def test_null_removes_the_default(key: str, gone: str) -> None:
    changed = spoiled({}, tuple(key.split(".")), None)
    default, without = (only(render(MLFLOW, values), "Deployment") for values in ({}, changed))

    assert gone in str(default)
    assert gone not in str(without)


@pytest.mark.long
@pytest.mark.parametrize("base", [{}, EVERYTHING], ids=["default", "everything"])
def test_odd_values_for_every_key(base: Values) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        assert [problem for problem in pool.map(outcome, spoils(base, ODD)) if problem] == []
