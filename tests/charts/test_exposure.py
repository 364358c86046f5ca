"""Values that set keys of the Service, the Ingress, the ServiceMonitor and the pods of both charts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.charts.harness import MINIMAL, only, pod_specs, pod_template
from tests.charts.strategies import merged
from tools.charts import MLFLOW, MODEL_SERVICE, HelmError, Object, Values, render

pytestmark = pytest.mark.parametrize("chart", [MODEL_SERVICE, MLFLOW], ids=lambda chart: chart.name)


def objects(chart: Path, values: Values) -> list[Object]:
    return render(chart, merged(MINIMAL, values) if chart == MODEL_SERVICE else values)


def test_service_has_the_keys_of_a_load_balancer(chart: Path) -> None:
    keys = {
        "type": "LoadBalancer",
        "loadBalancerClass": "internal",
        "externalTrafficPolicy": "Local",
        "trafficDistribution": "PreferClose",
    }

    service = only(objects(chart, {"service": {**keys, "nodePort": 30080, "labels": {"team": "risk"}}}), "Service")

    assert keys.items() <= service["spec"].items()
    assert service["spec"]["ports"][0]["nodePort"] == 30080
    assert service["metadata"]["labels"]["team"] == "risk"
    default = only(objects(chart, {}), "Service")["spec"]
    assert default.keys() == {"type", "ports", "selector"}


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        ({"nodePort": 30080}, "service.nodePort=30080 has no effect with service.type=ClusterIP"),
        ({"externalTrafficPolicy": "Local"}, "service.externalTrafficPolicy=Local has no effect with service.type=Cl"),
        ({"loadBalancerClass": "a", "type": "NodePort"}, "service.type=NodePort: set service.type=LoadBalancer."),
    ],
)
def test_key_that_the_type_ignores_is_refused(chart: Path, service: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        objects(chart, {"service": service})

    assert sentence in str(refused.value)


def test_ingress_has_labels(chart: Path) -> None:
    ingress = {"enabled": True, "hosts": [{"host": "a.example"}], "labels": {"team": "risk"}}

    assert only(objects(chart, {"ingress": ingress}), "Ingress")["metadata"]["labels"]["team"] == "risk"


def test_service_monitor_scrapes_with_tls_and_copies_labels(chart: Path) -> None:
    monitor = {"enabled": True, "scheme": "https", "tlsConfig": {"caFile": "/ca"}, "podTargetLabels": ["team"]}

    spec = only(objects(chart, {"monitoring": {"serviceMonitor": monitor}}), "ServiceMonitor")["spec"]

    assert spec["podTargetLabels"] == ["team"]
    assert {"scheme": "https", "tlsConfig": {"caFile": "/ca"}}.items() <= spec["endpoints"][0].items()


def test_pods_have_the_scheduler(chart: Path) -> None:
    for spec in pod_specs(objects(chart, {"pod": {"schedulerName": "volcano"}})):
        assert spec["schedulerName"] == "volcano"


def test_extra_env_without_a_name_is_refused(chart: Path) -> None:
    with pytest.raises(HelmError, match=r"extraEnv\[1\] has no name: set its name, and value or valueFrom"):
        objects(chart, {"extraEnv": [{"name": "A", "value": "a"}, {"value": "b"}]})


def test_options_reach_the_server(chart: Path) -> None:
    values = {"api": {"rootPath": "/churn"}} if chart == MODEL_SERVICE else {"server": {"extraArgs": ["--x", "a b"]}}

    container: Any = pod_template(objects(chart, values))["spec"]["containers"][0]

    if chart == MODEL_SERVICE:
        assert {"name": "MODEL_SERVICE_ROOT_PATH", "value": "/churn"} in container["env"]
    else:
        assert container["command"][-2:] == ["--x", "a b"]


def hooks(chart: Path, values: Values) -> Any:
    return pod_template(objects(chart, values))["spec"]["containers"][0].get("lifecycle")


def test_hooks_of_the_container_keep_the_sleep_unless_they_replace_it(chart: Path) -> None:
    start, stop = {"exec": {"command": ["warm-up"]}}, {"exec": {"command": ["leave"]}}
    sleep = {"sleep": {"seconds": 5}}

    assert hooks(chart, {}) == {"preStop": sleep}
    assert hooks(chart, {"lifecycle": {"postStart": start}}) == {"postStart": start, "preStop": sleep}
    assert hooks(chart, {"lifecycle": {"preStop": stop}}) == {"preStop": stop}
    assert hooks(chart, {"pod": {"preStopSleepSeconds": None}}) is None


def empty_dirs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the limit of each emptyDir volume."""
    if isinstance(value, dict) and "emptyDir" in value and value["emptyDir"].get("medium") != "Memory":
        yield value["name"], value["emptyDir"].get("sizeLimit")
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from empty_dirs(child)


def test_each_empty_dir_has_its_limit(chart: Path) -> None:
    own: Values = {
        "model": {"uri": "models:/churn/1", "flavor": "pyfunc"},
        "mlflow": {"trackingUri": "http://mlflow"},
        "training": {"enabled": True},
        "batch": {"enabled": True, "data": "/a", "output": "/b"},
    }
    values = own if chart == MODEL_SERVICE else {"garbageCollection": {"enabled": True}}
    names = {name for name, _ in empty_dirs(objects(chart, values))}
    assert names == (
        {"cache", "environments", "handover", "model-tmp", "tmp", "worker"}
        if chart == MODEL_SERVICE
        else {"home", "tmp"}
    )

    limits = {name: f"{size}Gi" for size, name in enumerate(sorted(names), start=1)}

    assert set(empty_dirs(objects(chart, {**values, "emptyDirSizeLimits": limits}))) == set(limits.items())
    assert {limit for _, limit in empty_dirs(objects(chart, values))} == {None}


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"tpm": "1Gi"}, "emptyDirSizeLimits.tpm names no volume of this chart: use "),
        ({"tmp": "1GB"}, "emptyDirSizeLimits/tmp"),
    ],
)
def test_limit_that_cannot_work_is_refused(chart: Path, limits: Values, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        objects(chart, {"emptyDirSizeLimits": limits})

    assert sentence in str(refused.value)
