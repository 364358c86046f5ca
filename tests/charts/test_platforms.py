"""Platforms with rules of their own: OpenShift, clusters with IPv6, and clusters with a mirror of the images."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.charts.harness import MINIMAL, only, rendered
from tests.charts.strategies import merged
from tests.charts.test_schemas import JOBS, TRAIN_JOB
from tools.charts import MLFLOW, MODEL_SERVICE, OBSERVABILITY, HelmError, Object, Values, render
from tools.cluster.programs import clients
from tools.cluster.umbrella import copy_umbrella
from tools.image_list import all_objects, images

OPENSHIFT = "values-openshift.yaml"
POLICY = {"networkPolicy": {"enabled": True}}
EVERYTHING_OF_MLFLOW = {**POLICY, "garbageCollection": {"enabled": True}}


def security_contexts(value: Any) -> Iterator[Object]:
    """Yield all security contexts of pods and containers."""
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key == "securityContext":
            yield child
        yield from security_contexts(child)


def identities(objects: list[Object]) -> set[str]:
    """Return the names of the users and groups that the objects set."""
    found = list(security_contexts(objects))
    assert found
    return {key for each in found for key in each} & {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"}


def dns_ports(objects: list[Object]) -> set[int]:
    """Return the ports that the policies allow towards OpenShift's DNS."""
    rules = [rule for each in objects if each["kind"] == "NetworkPolicy" for rule in each["spec"]["egress"]]
    return {port["port"] for rule in rules if "openshift-dns" in json.dumps(rule) for port in rule["ports"]}


@pytest.mark.parametrize("values", [{}, JOBS, TRAIN_JOB], ids=["service", "jobs", "trainjob"])
def test_service_and_jobs_set_no_user_and_no_group(values: dict[str, Any]) -> None:
    assert identities(rendered(values)) == set()


def test_openshift_values_of_the_service_reach_its_dns() -> None:
    objects = render(MODEL_SERVICE, merged(JOBS, POLICY), files=[MODEL_SERVICE / OPENSHIFT])

    assert identities(objects) == set()
    assert dns_ports(objects) == {53, 5353}


def test_openshift_values_of_the_umbrella_set_no_group(tmp_path: Path) -> None:
    umbrella = copy_umbrella(tmp_path / "observability")
    values = {"kube-prometheus-stack": {"enabled": False}, "mlflow": EVERYTHING_OF_MLFLOW}

    objects = render(umbrella, values, files=[OBSERVABILITY / OPENSHIFT])

    assert identities(render(umbrella, values)) == {"fsGroup"}, "without the file, for the volume"
    assert identities(objects) == set()
    assert dns_ports(objects) == {53, 5353}


def pods(value: Any) -> Iterator[Object]:
    """Yield the specs of all pods."""
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from pods(child)
    if isinstance(value, dict) and "containers" in value:
        yield value


def test_global_registry_and_secrets_apply_to_every_image_and_pod() -> None:
    shared = {"imageRegistry": "mirror.example/hub", "imagePullSecrets": [{"name": "mirror"}]}
    objects = all_objects(shared) + rendered({**TRAIN_JOB, "global": shared})
    before, after = images(all_objects()), images(objects)

    assert {image.removeprefix("ghcr.io/").partition(":")[0] for image in before} >= {
        "model-service/model-service",
        "model-service/model-service-training",
        "model-service/model-service-mlflow",
    }
    assert len(after) == len(before)
    assert [image for image in after if not image.startswith("mirror.example/hub/")] == []
    specs = list(pods(objects))
    assert len(specs) >= 8
    assert [each for each in specs if {"name": "mirror"} not in each.get("imagePullSecrets", [])] == []


def test_pull_secrets_of_pod_and_global_are_added_up() -> None:
    values = {"global": {"imagePullSecrets": ["mirror", "own"]}, "pod": {"imagePullSecrets": [{"name": "own"}]}}

    for objects in (rendered(values), render(MLFLOW, values)):
        for spec in pods(objects):
            assert spec["imagePullSecrets"] == [{"name": "mirror"}, {"name": "own"}]


@pytest.mark.parametrize("chart", [MODEL_SERVICE, MLFLOW], ids=lambda chart: chart.name)
def test_service_has_the_address_families(chart: Path) -> None:
    def spec(service: dict[str, Any]) -> Object:
        values: Values = {"service": service, **(MINIMAL if chart == MODEL_SERVICE else {})}
        found: Object = only(render(chart, values), "Service")["spec"]
        return found

    both = {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    assert both.items() <= spec(both).items()
    assert not both.keys() & spec({}).keys(), "the cluster decides"
    with pytest.raises(HelmError, match="ipFamilyPolicy"):
        spec({"ipFamilyPolicy": "DualStack"})


@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_chart_twice_in_a_parent_chart_has_two_sets_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helm: str
) -> None:
    aliases = [{"name": "model-service", "version": "0.1.0", "alias": alias} for alias in ("churn", "fraud")]
    about = {"apiVersion": "v2", "name": "ours", "version": "0.1.0", "dependencies": aliases}
    own: dict[str, Any] = {
        **MINIMAL,
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraEnvFrom": [{"secretRef": {"name": "more"}}],
        "pod": {
            "containers": [{"name": "proxy", "image": "proxy:1"}],
            "initContainers": [{"name": "a", "image": "a:1"}],
        },
    }
    (tmp_path / "Chart.yaml").write_text(json.dumps(about))
    shared = {"imageRegistry": "mirror.example"}
    (tmp_path / "values.yaml").write_text(json.dumps({"global": shared, "churn": own, "fraud": own}))
    shutil.copytree(MODEL_SERVICE, tmp_path / "charts" / "model-service")
    monkeypatch.setenv("HELM", str(clients() / helm))

    # Helm 4 ignores a null in the values.yaml of a parent chart, but not one in a file of the user.
    objects = render(tmp_path, {alias: {"livenessProbe": None} for alias in ("churn", "fraud")})
    deployments = [each for each in objects if each["kind"] == "Deployment"]
    selectors = [each["spec"]["selector"]["matchLabels"] for each in deployments]

    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    assert {each["metadata"]["name"] for each in deployments} == {"demo-churn", "demo-fraud"}
    assert selectors[0] != selectors[1]
    for each in deployments:
        main, proxy = each["spec"]["template"]["spec"]["containers"]
        assert "livenessProbe" not in main
        assert main["image"].startswith("mirror.example/")
        assert {"name": "TZ", "value": "UTC"} in main["env"]
        assert main["envFrom"] == [{"secretRef": {"name": "more"}}]
        assert (proxy["name"], each["spec"]["template"]["spec"]["initContainers"][0]["name"]) == ("proxy", "a")


@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_parent_chart_removes_the_group_in_its_own_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helm: str
) -> None:
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: ours\nversion: 0.1.0\n")
    (tmp_path / "values.yaml").write_text('mlflow: {pod: {securityContext: {fsGroup: ""}}}\n')
    shutil.copytree(MLFLOW, tmp_path / "charts" / "mlflow")
    monkeypatch.setenv("HELM", str(clients() / helm))

    assert identities(render(tmp_path, EVERYTHING_OF_MLFLOW)) == set()
