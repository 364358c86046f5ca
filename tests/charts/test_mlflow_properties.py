"""Whatever the subchart's values are: valid objects, or a sentence of the schema or validate.yaml; no error of Go's."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.charts.harness import MLFLOW, HelmError, Values, render
from tests.charts.schemas import problems
from tests.charts.strategies import keys, merged, spoiled
from tests.charts.test_properties import ERRORS_OF_GO, ODD

SCHEMA = json.loads((MLFLOW / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((MLFLOW / "values.yaml").read_text())
SENTENCE = "execution error at (mlflow/templates/validate.yaml"
# Each key that puts something into an object.
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
        "additionalEgressRules": [{"ports": [{"port": 5432}]}],
    },
    "garbageCollection": {"enabled": True},
    "serviceMonitor": {"enabled": True, "additionalLabels": {"release": "kps"}},
    "prometheusRule": {
        "enabled": True,
        "disabledAlerts": ["MLflowSlow"],
        "extraGroups": [{"name": "mine", "rules": [{"record": "a:b", "expr": "vector(1)"}]}],
    },
    "grafanaDashboards": {"enabled": True},
    "podLabels": {"tier": "gold"},
    "podAnnotations": {"a": "b"},
    "affinity": {"nodeAffinity": {}},
    "env": [{"name": "AWS_CA_BUNDLE", "value": "/ca.crt"}],
    "envFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "extraContainers": [{"name": "proxy", "image": "proxy:1"}],
    "extraInitContainers": [{"name": "wait", "image": "wait:1"}],
    "commonAnnotations": {"owner": "Ünïcode ✓"},
    "commonLabels": {"team": "platform"},
}  # fmt: skip
VALIDATOR = Draft7Validator(SCHEMA)


def outcome(values: Values) -> str:
    """Render values that the schema accepts and return what is wrong with the outcome, "" when nothing is."""
    try:
        return "; ".join(problems(render(MLFLOW, values)))
    except HelmError as refused:
        text = str(refused)
        return "" if SENTENCE in text and not any(word in text for word in ERRORS_OF_GO) else f"{values}: {text}"
    except yaml.YAMLError as broken:
        return f"{values}: no YAML: {broken}"


def spoils(base: Values, odd: list[Any]) -> list[dict[str, Any]]:
    """Return values with one key spoiled each, those that the schema refuses left out."""
    found = [spoiled(base, path, value) for path in keys(SCHEMA) for value in odd]
    return [values for values in found if VALIDATOR.is_valid(merged(DEFAULTS, values))]


def test_everything_at_once_is_valid() -> None:
    assert outcome(EVERYTHING) == ""


def test_nulls_for_every_key() -> None:
    cases = spoils(EVERYTHING, [None])

    assert len(cases) >= 5
    assert [problem for problem in map(outcome, cases) if problem] == []


@pytest.mark.long
@pytest.mark.parametrize("base", [{}, EVERYTHING], ids=["default", "everything"])
def test_odd_values_for_every_key(base: Values) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        assert [problem for problem in pool.map(outcome, spoils(base, ODD)) if problem] == []
