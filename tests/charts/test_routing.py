"""Tests of Ingress, HTTPRoute and NetworkPolicy."""

from typing import Any

import pytest

from tests.charts.harness import ANYWHERE, environment, kinds, only, pod_template, rendered
from tools.charts import Object, Values

GATEWAY: Values = {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]}
CONTROLLER: Object = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
CALLER: Object = {"podSelector": {"matchLabels": {"app": "web"}}}
TEST_POD: Object = {
    "podSelector": {
        "matchLabels": {"app.kubernetes.io/name": "model-service-test", "app.kubernetes.io/instance": "demo"}
    }
}


def policy(values: Values | None = None, **settings: Any) -> Object:
    """Return the spec of the NetworkPolicy for values and settings under `networkPolicy`."""
    objects = rendered({"networkPolicy": {"enabled": True, **settings}, **(values or {})})
    spec: Object = only(objects, "NetworkPolicy")["spec"]
    return spec


def tracked(uri: str) -> Values:
    """Return values for a registered model on the MLflow server at `uri`."""
    return {"model": {"uri": "models:/churn@champion"}, "mlflow": {"trackingUri": uri}}


def test_ingress_routes_each_host_to_the_service() -> None:
    paths = [{"path": "/v1", "pathType": "Exact"}, {"path": "/v2"}]
    tls = [{"hosts": ["a.example"], "secretName": "a"}]
    hosts = [{"host": "a.example"}, {"host": "b.example", "paths": paths}, {}]

    spec = only(rendered({"ingress": {"enabled": True, "className": "nginx", "hosts": hosts, "tls": tls}}), "Ingress")[
        "spec"
    ]

    backend = {"service": {"name": "demo-model-service", "port": {"name": "http"}}}
    assert (spec["ingressClassName"], spec["tls"]) == ("nginx", tls)
    assert [rule.get("host") for rule in spec["rules"]] == ["a.example", "b.example", None]
    assert [rule["http"]["paths"] for rule in spec["rules"][:2]] == [
        [{"path": "/", "pathType": "Prefix", "backend": backend}],
        [
            {"path": "/v1", "pathType": "Exact", "backend": backend},
            {"path": "/v2", "pathType": "Prefix", "backend": backend},
        ],
    ]


def test_ingress_omits_class_and_tls_by_default() -> None:
    spec = only(rendered({"ingress": {"enabled": True, "hosts": [{"host": "a.example"}]}}), "Ingress")["spec"]

    assert spec.keys() == {"rules"}


@pytest.mark.parametrize("kind", ["Ingress", "HTTPRoute", "NetworkPolicy"])
def test_absent_by_default(kind: str) -> None:
    assert kind not in kinds(rendered())


def test_http_route_sends_all_requests_to_the_service() -> None:
    spec = only(rendered({"httpRoute": GATEWAY, "service": {"port": 8080}}), "HTTPRoute")["spec"]

    assert spec == {
        "parentRefs": GATEWAY["parentRefs"],
        "rules": [{"backendRefs": [{"name": "demo-model-service", "port": 8080}]}],
    }


@pytest.mark.parametrize(("weight", "kept"), [(0, 100), (10, 90), (100, 0)])
def test_http_route_splits_each_rule_by_canary_weight(weight: int, kept: int) -> None:
    rules: list[Object] = [
        {"matches": [{"path": {"type": "Exact", "value": "/predict"}}]},
        {"timeouts": {"request": "10s"}},
    ]
    canary = {"service": "churn-next", "port": 8080, "weight": weight}

    spec = only(rendered({"httpRoute": {**GATEWAY, "rules": rules, "canary": canary}}), "HTTPRoute")["spec"]

    backends = [
        {"name": "demo-model-service", "port": 80, "weight": kept},
        {"name": "churn-next", "port": 8080, "weight": weight},
    ]
    assert spec["rules"] == [{**rule, "backendRefs": backends} for rule in rules]


def test_http_route_has_labels_annotations_and_hostnames() -> None:
    more = {"hostnames": ["churn.example"], "additionalLabels": {"tier": "edge"}, "annotations": {"note": "x"}}

    route = only(rendered({"httpRoute": {**GATEWAY, **more}}), "HTTPRoute")

    assert route["metadata"]["labels"]["tier"] == "edge"
    assert route["metadata"]["annotations"] == {"note": "x"}
    assert route["spec"]["hostnames"] == ["churn.example"]


def test_policy_selects_only_the_pods_of_the_service() -> None:
    objects = rendered({"networkPolicy": {"enabled": True}})

    spec = only(objects, "NetworkPolicy")["spec"]

    selected = spec["podSelector"]["matchLabels"].items()
    assert selected <= pod_template(objects)["metadata"]["labels"].items()
    assert not selected <= only(objects, "Pod")["metadata"]["labels"].items()
    assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_policy_denies_ingress_without_clients() -> None:
    assert policy({"tests": {"enabled": False}})["ingress"] == []


def test_policy_allows_the_helm_test_and_the_given_clients() -> None:
    rules = policy(ingressFrom=[CALLER])["ingress"]

    assert rules == [
        {"from": [CALLER, TEST_POD], "ports": [{"port": "http"}]},
        {"from": [TEST_POD], "ports": [{"port": "metrics"}]},
    ]


def test_policy_allows_prometheus_only_with_a_service_monitor() -> None:
    api, metrics = policy({"monitoring": {"serviceMonitor": {"enabled": True}}})["ingress"]

    assert metrics["ports"] == [{"port": "metrics"}]
    assert metrics["from"][1]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert api["from"] == policy()["ingress"][1]["from"] == [TEST_POD]


@pytest.mark.parametrize(
    "route", [{"httpRoute": GATEWAY}, {"ingress": {"enabled": True, "hosts": [{"host": "a.example"}]}}]
)
def test_policy_allows_the_controller_only_with_a_route(route: Values) -> None:
    assert CONTROLLER in policy(route, controllerFrom=[CONTROLLER])["ingress"][0]["from"]
    assert CONTROLLER not in policy(controllerFrom=[CONTROLLER])["ingress"][0]["from"]


def test_policy_allows_only_dns_for_a_local_model() -> None:
    rules = policy()["egress"]

    assert len(rules) == 1
    assert rules[0]["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert rules[0]["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]


@pytest.mark.parametrize(
    ("uri", "namespace", "port"),
    [
        ("http://obs-mlflow.monitoring.svc.cluster.local:5000", "monitoring", 5000),
        ("https://mlflow.ml.svc/path", "ml", 443),
        ("http://mlflow:5000", "models", 5000),
        ("http://mlflow", "models", 80),
        ("https://mlflow.example.com", None, 443),
        ("http://10.0.0.9:5000/", None, 5000),
        ("http://[fd00::1]:5000", None, 5000),
    ],
)
def test_policy_allows_egress_to_the_tracking_uri(uri: str, namespace: str | None, port: int) -> None:
    rule = policy(tracked(uri))["egress"][1]

    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    assert rule == {"ports": [{"port": port}], "to": [selector] if namespace else ANYWHERE}


def test_policy_takes_the_mlflow_port_and_extra_egress() -> None:
    more = {"ports": [{"port": 443}]}

    rules = policy(tracked("http://mlflow:80"), mlflowPort=5000, extraEgress=[more])["egress"]

    assert rules[1]["ports"] == [{"port": 5000}]
    assert rules[2] == more


def test_policy_denies_egress_without_dns() -> None:
    assert policy(dnsTo=[])["egress"] == []


def test_policy_follows_the_namespace_override() -> None:
    rule = policy({**tracked("http://mlflow:5000"), "namespaceOverride": "risk"})["egress"][1]

    assert rule["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "risk"}


def test_routes_do_not_change_the_pods() -> None:
    routes = {"httpRoute": GATEWAY, "ingress": {"enabled": True, "hosts": [{"host": "a.example"}]}}

    assert environment(rendered(routes)) == environment(rendered())
