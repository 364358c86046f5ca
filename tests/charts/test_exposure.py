"""Values that set keys of the Service, the Ingress, the ServiceMonitor and the pods of both charts."""

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
