"""Tests of the canary: the release's own templates with other values, an HTTPRoute with weights, and messages."""

from typing import Any

import pytest
import yaml

from tests.charts.harness import MINIMAL, environment, pod_template, rendered
from tests.charts.strategies import merged
from tools.charts import MODEL_SERVICE, HelmError, Object, Values, render

NAME = "demo-model-service"
CANARY = f"{NAME}-canary"
GATEWAY: Values = {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]}
VALUES: Values = {
    "model": {"uri": "models:/churn/7", "sha256": "a" * 64},
    "mlflow": {"trackingUri": "http://mlflow:5000"},
    "httpRoute": GATEWAY,
    "canary": {"enabled": True, "model": {"uri": "models:/churn/8"}},
}
# Everything of which a canary has its own.
COMPLETE: Values = merged(
    VALUES,
    {
        "networkPolicy": {"enabled": True, "controllerFrom": [{"namespaceSelector": {}}]},
        "monitoring": {"serviceMonitor": {"enabled": True}},
        "api": {"quotas": {"default": {"rowsPerSecond": 100}}, "auth": {"existingSecret": "keys"}},
    },
)


def objects(values: Values | None = None, **canary: Any) -> list[Object]:
    return rendered(merged(merged(VALUES, {"canary": canary}), values or {}))


def named(found: list[Object], kind: str, name: str) -> Object:
    (one,) = (each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return one


def pair(found: list[Object], kind: str, suffix: str = "") -> tuple[Object, Object]:
    """Return an object of the served model and that of the canary."""
    return named(found, kind, f"{NAME}{suffix}"), named(found, kind, f"{CANARY}{suffix}")


def selects(selector: Object, deployment: Object) -> bool:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    return bool(selector.items() <= labels.items())


def test_absent_by_default_and_without_effect_on_the_served_model() -> None:
    without = rendered({**VALUES, "canary": {}})
    served = [each for each in objects() if not each["metadata"]["name"].startswith(CANARY)]

    assert CANARY not in str(without)
    assert [each for each in served if each["kind"] != "HTTPRoute"] == [
        each for each in without if each["kind"] != "HTTPRoute"
    ]


def test_pods_differ_in_names_and_model_only() -> None:
    served, canary = pair(objects(COMPLETE, model={"uri": "models:/churn/8", "sha256": "b" * 64}), "Deployment")
    text = yaml.safe_dump(canary["spec"]["template"])
    expected = text.replace(CANARY, NAME).replace("model-service-canary", "model-service")

    assert expected.replace("models:/churn/8", "models:/churn/7").replace("b" * 64, "a" * 64) == yaml.safe_dump(
        served["spec"]["template"]
    )


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *(("Service", suffix) for suffix in ("", "-metrics", "-peers")),
        ("ConfigMap", "-quotas"), ("NetworkPolicy", ""), ("PodDisruptionBudget", ""), ("ServiceMonitor", ""),
        ("Pod", "-predict"),
    ],
)  # fmt: skip
def test_canary_has_objects_of_its_own(kind: str, suffix: str) -> None:
    served, canary = pair(objects(COMPLETE), kind, suffix)

    assert (
        served["metadata"]["labels"]["app.kubernetes.io/name"] != canary["metadata"]["labels"]["app.kubernetes.io/name"]
    )


def test_no_selector_catches_pods_of_the_other_version() -> None:
    found = objects(COMPLETE)
    deployments = pair(found, "Deployment")
    selectors = [
        each["spec"].get("selector", each["spec"].get("podSelector"))
        for each in found
        if each["kind"] in ("Service", "Deployment", "NetworkPolicy", "PodDisruptionBudget")
    ]
    caught = [
        [selects(selector.get("matchLabels", selector), deployment) for deployment in deployments]
        for selector in selectors
    ]

    assert len(caught) == 12
    assert {tuple(each) for each in caught} == {(True, False), (False, True)}


def test_monitors_name_the_job_after_each_version() -> None:
    found = objects(COMPLETE)
    for monitor, name in zip(pair(found, "ServiceMonitor"), (NAME, CANARY), strict=True):
        labels = monitor["spec"]["selector"]["matchLabels"].items()
        services = [
            each for each in found if each["kind"] == "Service" and labels <= each["metadata"]["labels"].items()
        ]
        assert {each["metadata"]["name"].removeprefix(name) for each in services} == {"", "-metrics", "-peers"}
        assert {each["replacement"] for each in monitor["spec"]["endpoints"][0]["relabelings"]} == {name}


def test_network_policy_admits_the_helm_test_of_each_version() -> None:
    found = objects(COMPLETE)
    for policy, test in zip(pair(found, "NetworkPolicy"), pair(found, "Pod", "-predict"), strict=True):
        admitted = [
            peer["podSelector"]["matchLabels"] for peer in policy["spec"]["ingress"][0]["from"] if "podSelector" in peer
        ]
        assert any(labels.items() <= test["metadata"]["labels"].items() for labels in admitted)
        assert test["spec"]["containers"][0]["args"] == [
            f"http://{policy['metadata']['name']}:80",
            f"--metrics=http://{policy['metadata']['name']}-metrics:8002",
        ]


@pytest.mark.parametrize(("weight", "kept"), [(0, 100), (10, 90), (100, 0)])
def test_route_splits_each_rule_by_weight(weight: int, kept: int) -> None:
    rules: list[Object] = [{"timeouts": {"request": "10s"}}, {"matches": [{"path": {"type": "Exact", "value": "/x"}}]}]

    route = named(objects({"httpRoute": {"rules": rules}, "service": {"port": 8080}}, weight=weight), "HTTPRoute", NAME)

    backends = [{"name": NAME, "port": 8080, "weight": kept}, {"name": CANARY, "port": 8080, "weight": weight}]
    assert route["spec"]["rules"] == [{**rule, "backendRefs": backends} for rule in rules]


def test_canary_keeps_out_what_exists_once_per_release() -> None:
    values: Values = {
        "model": {
            "uri": "models:/churn@champion",
            "sha256": "",
            "follow": {"enabled": True},
            "cache": {"existingClaim": "models"},
        },
        "challenger": {"uri": "models:/churn@challenger"},
        "autoscaling": {"enabled": True},
        "training": {"enabled": True, "settings": {"train": {"data": "s3://a/b", "target": "y"}}},
        "service": {"type": "LoadBalancer", "nodePort": 30080, "externalTrafficPolicy": "Local"},
        "serviceAccount": {"name": "churn"},
        "podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": None},
    }
    found = objects(values, replicaCount=3)
    served, canary = pair(found, "Deployment")
    variables = environment([canary])

    assert "replicas" not in served["spec"]
    assert canary["spec"]["replicas"] == 3
    assert not [
        name
        for name in variables
        if name.startswith(("MODEL_SERVICE_FOLLOW", "MODEL_SERVICE_CHALLENGER", "MODEL_SERVICE_CANDIDATE"))
    ]
    assert {"name": "cache", "emptyDir": {}} in pod_template([canary])["spec"]["volumes"], "a claim holds one model"
    assert pod_template([canary])["spec"]["serviceAccountName"] == "churn"
    assert named(found, "Service", CANARY)["spec"].keys() == {"ports", "selector"}
    assert named(found, "Service", CANARY)["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}
    ]
    assert named(found, "PodDisruptionBudget", CANARY)["spec"]["maxUnavailable"] == 1
    assert [each["kind"] for each in found].count("HorizontalPodAutoscaler") == 1
    assert [each["kind"] for each in found].count("ServiceAccount") == 1
    assert [each["kind"] for each in found].count("Job") == 1


def test_canary_without_a_budget_and_without_a_test() -> None:
    found = objects({"podDisruptionBudget": {"enabled": False}, "tests": {"enabled": False}})

    assert {each["kind"] for each in found if each["metadata"]["name"].startswith(CANARY)} == {"Deployment", "Service"}


@pytest.mark.parametrize(
    "uri", ["pvc://models/8", "oci://registry.example/churn:8", "s3://models/churn/8", "file:///m/8"]
)
def test_canary_takes_its_model_from_any_source(uri: str) -> None:
    _, canary = pair(
        objects({"mlflow": {"trackingUri": ""}, "model": {"uri": "file:///m/7"}}, model={"uri": uri}), "Deployment"
    )
    mounts = [each["mountPath"] for each in canary["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]

    assert environment([canary])["MODEL_SERVICE_MODEL_URI"].startswith(("s3://models/churn/8", "file:///m"))
    assert any(path.startswith("/models/") for path in mounts) == uri.startswith(("pvc", "oci"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"httpRoute": {"enabled": False}}, "canary.enabled=true requires httpRoute.enabled=true, because"),
        ({"httpRoute": {"canary": {"service": "next"}}}, "canary.enabled=true and httpRoute.canary.service=next are"),
        ({"canary": {"model": {"uri": ""}}}, "canary.model.uri is empty: set it to the version to try"),
        ({"canary": {"model": None}}, "canary.model.uri is empty: set it to the version to try"),
        ({"canary": {"model": {"uri": "models:/churn/7"}}}, "canary.model.uri=models:/churn/7 is the same as model"),
        ({"canary": {"model": {"sha256": "a" * 64}}}, "is the same as model.sha256, so there is nothing to"),
        ({"canary": {"model": {"uri": "models:/fraud/8"}}}, "canary.model.uri=models:/fraud/8 names a different"),
        ({"canary": {"model": {"uri": "churn"}}}, "canary.model.uri=churn is not supported: use models:/<"),
        ({"canary": {"model": {"uri": "models:/churn/0"}}}, "canary.model.uri=models:/churn/0 is not valid: use"),
        ({"canary": {"model": {"uri": "https://a.example/m"}}}, "could replace the model: set canary.model.sha256."),
        ({"mlflow": {"trackingUri": ""}, "model": {"uri": "file:///m"}}, "canary.model.uri=models:/churn/8 requires"),
        ({"fullnameOverride": "a" * 49}, "which has 49: set fullnameOverride to at most 48 characters"),
    ],
)  # fmt: skip
def test_value_that_cannot_work_is_refused(values: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        objects(values)

    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "canary",
    [{"weight": 101}, {"weight": None}, {"replicaCount": 0}, {"analysis": None}, {"analysis": {"window": "1 h"}}],
)
def test_schema_refuses_by_key(canary: Values) -> None:
    with pytest.raises(HelmError, match=f"canary.*{next(iter(canary))}"):
        render(MODEL_SERVICE, {**MINIMAL, "canary": canary})


def test_longest_name_fits() -> None:
    found = objects({**COMPLETE, "fullnameOverride": "a" * 48, "nameOverride": "b" * 50})

    assert max(len(each["metadata"]["name"]) for each in found) == 63
    assert all(len(each["metadata"]["labels"]["app.kubernetes.io/name"]) <= 63 for each in found)
