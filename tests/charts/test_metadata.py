"""Tests of object metadata, and of values that users add to the pods."""

import pytest

from tests.charts.harness import container, environment, only, pod_template, rendered
from tools.charts import Values

SWITCHED_ON: Values = {"autoscaling": {"enabled": True}, "monitoring": {"serviceMonitor": {"enabled": True}}}
SCHEDULING: Values = {
    "priorityClassName": "high",
    "runtimeClassName": "gvisor",
    "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["mlflow.internal"]}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "imagePullSecrets": [{"name": "pull"}],
}


def test_objects_are_in_the_release_namespace() -> None:
    assert {item["metadata"]["namespace"] for item in rendered(SWITCHED_ON)} == {"models"}


def test_namespace_override_moves_every_object() -> None:
    objects = rendered({**SWITCHED_ON, "namespaceOverride": "risk"})

    assert {item["metadata"]["namespace"] for item in objects} == {"risk"}


def test_objects_have_no_annotations_by_default() -> None:
    annotated = {item["kind"]: [*item["metadata"].get("annotations", {})] for item in rendered(SWITCHED_ON)}

    assert {kind: names for kind, names in annotated.items() if names} == {
        "Pod": ["helm.sh/hook", "helm.sh/hook-delete-policy"],
        "Deployment": ["model-service/autoscaled"],
    }


def test_common_annotations_are_on_objects_but_not_on_pods() -> None:
    objects = rendered({**SWITCHED_ON, "commonAnnotations": {"owner": "Ünïcode ✓"}})

    assert all(item["metadata"]["annotations"]["owner"] == "Ünïcode ✓" for item in objects)
    assert only(objects, "Pod")["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert "annotations" not in pod_template(objects)["metadata"]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Deployment", {"deployment": {"annotations": {"owner": "own"}}}),
        ("Service", {"service": {"annotations": {"owner": "own"}}}),
        ("ServiceAccount", {"serviceAccount": {"annotations": {"owner": "own"}}}),
    ],
)
def test_own_annotations_override_common_ones(kind: str, values: Values) -> None:
    objects = rendered({"commonAnnotations": {"owner": "common", "more": "yes"}, **values})

    assert only(objects, kind)["metadata"]["annotations"] == {"owner": "own", "more": "yes"}


def test_scheduling_keys_absent_by_default() -> None:
    assert SCHEDULING.keys() & pod_template(rendered())["spec"].keys() == set()


def test_scheduling_keys_reach_the_pod() -> None:
    spec = pod_template(rendered({"pod": SCHEDULING}))["spec"]

    assert {key: spec.get(key) for key in SCHEDULING} == SCHEDULING


def test_rollout_settings() -> None:
    default, changed = (
        only(rendered(values), "Deployment")["spec"]
        for values in ({}, {"deployment": {"revisionHistoryLimit": 0, "minReadySeconds": 9}})
    )

    assert (default["revisionHistoryLimit"], default["minReadySeconds"]) == (5, 0)
    assert (changed["revisionHistoryLimit"], changed["minReadySeconds"]) == (0, 9)


def test_extra_containers_join_the_pod() -> None:
    sidecar, first = {"name": "proxy", "image": "proxy:1"}, {"name": "wait", "image": "wait:1"}

    default = pod_template(rendered())["spec"]
    spec = pod_template(rendered({"pod": {"containers": [sidecar], "initContainers": [first]}}))["spec"]

    assert [item["name"] for item in default["containers"]] == ["model-service"]
    assert "initContainers" not in default
    assert spec["containers"][1:] == [sidecar]
    assert spec["initContainers"] == [first]


def test_ca_bundle_absent_by_default() -> None:
    objects = rendered()

    assert "SSL_CERT_FILE" not in environment(objects)
    assert all(volume["name"] != "mlflow-ca" for volume in pod_template(objects)["spec"]["volumes"])


def test_ca_bundle_of_mlflow_is_mounted_and_trusted() -> None:
    objects = rendered({"mlflow": {"caBundle": {"existingConfigMap": "company-ca", "key": "root.pem"}}})

    volumes = pod_template(objects)["spec"]["volumes"]
    mounts = {mount["name"]: mount for mount in container(objects)["volumeMounts"]}

    assert {"name": "mlflow-ca", "configMap": {"name": "company-ca"}} in volumes
    assert mounts["mlflow-ca"]["readOnly"] is True
    assert environment(objects)["SSL_CERT_FILE"] == f"{mounts['mlflow-ca']['mountPath']}/root.pem"
