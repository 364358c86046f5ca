"""A canary on the cluster: requests are split by the weights of the HTTPRoute, and Prometheus compares both versions.

No gateway runs on this cluster, so HAProxy stands in for it. It gets Services, ports and weights from the HTTPRoute.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.schemas import GATEWAY_API
from tests.e2e.two_versions import register_two_versions
from tools.charts import MODEL_SERVICE, Object
from tools.cluster.access import Access, http, promql, wait_for_series
from tools.cluster.images import APP, HAPROXY
from tools.cluster.main_job import NAMESPACE, TRACKING_URI, image_values, install
from tools.cluster.registry import push
from tools.go import module

RELEASE = "split"
FULLNAME = f"{RELEASE}-model-service"
CANARY = f"{FULLNAME}-canary"
PROXY = "split-proxy"
WEIGHT, REQUESTS = 20, 500


@pytest.fixture
def model(mlflow_url: str, tmp_path: Path) -> str:
    """Name of a registered model: the first version is that of the main job, and the second has half of its trees."""
    registry, _ = register_two_versions(mlflow_url, tmp_path, RELEASE)
    return registry.name


@pytest.fixture
def _routes(access: Access) -> Iterator[None]:
    """The definition of HTTPRoute. No controller reads the route."""
    definition = module(GATEWAY_API) / "config" / "crd" / "standard" / "gateway.networking.k8s.io_httproutes.yaml"
    access.kubectl("apply", "--server-side", "-f", str(definition))
    access.kubectl("wait", "crd/httproutes.gateway.networking.k8s.io", "--for=condition=Established", "--timeout=300s")
    try:
        yield
    finally:
        access.kubectl("delete", "-f", str(definition))


def upgraded(access: Access, model: str, **changed: str) -> None:
    """Install or upgrade the release with version 1 and version 2 as its canary, and with changed values."""
    given = {
        "model.uri": f"models:/{model}/1",
        "canary.enabled": "true",
        "canary.model.uri": f"models:/{model}/2",
        "canary.weight": str(WEIGHT),
        "canary.analysis.window": "10m",
        "httpRoute.enabled": "true",
        "httpRoute.parentRefs[0].name": PROXY,
        "mlflow.trackingUri": TRACKING_URI,
        "replicaCount": "1",
        "resources.requests.cpu": "50m",
        "monitoring.serviceMonitor.enabled": "true",
        "monitoring.prometheusRule.enabled": "true",
    } | {key.replace("__", "."): value for key, value in changed.items()}
    chosen = [f"--set={key}={value}" for key, value in given.items()]
    install(access, RELEASE, MODEL_SERVICE, NAMESPACE, *image_values(APP), *chosen)


@pytest.fixture
def _release(access: Access, model: str, _routes: None) -> Iterator[None]:
    upgraded(access, model)
    try:
        yield
    finally:
        access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")


def configuration(route: Object) -> str:
    """Return HAProxy's configuration for the first rule of an HTTPRoute."""
    [rule] = route["spec"]["rules"]
    servers = [
        f"  server {each['name']} {each['name']}:{each['port']} weight {each['weight']}" for each in rule["backendRefs"]
    ]
    timeouts = [f"  timeout {name} 30s" for name in ("connect", "client", "server")]
    lines = ["defaults", "  mode http", *timeouts, "listen route", "  bind :8080", "  balance roundrobin", *servers]
    return "\n".join(lines) + "\n"


@pytest.fixture
def proxy(access: Access, _release: None) -> Iterator[str]:
    """Address of HAProxy with the backends and weights of the HTTPRoute on the cluster."""
    push(HAPROXY)
    text = configuration(access.get("httproute", FULLNAME, NAMESPACE))
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "haproxy", "image": HAPROXY.reference, "args": ["/etc/route/haproxy.cfg"], "securityContext": secure,
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "route", "mountPath": "/etc/route"}],
    }  # fmt: skip
    spec = {"containers": [container], "volumes": [{"name": "route", "configMap": {"name": PROXY}}]}
    metadata = {"name": PROXY, "labels": {"app": PROXY}}
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"haproxy.cfg": text}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "terminationGracePeriodSeconds": 1}},
    ]
    access.kubectl("apply", "--namespace", NAMESPACE, "-f", "-", stdin=yaml.safe_dump_all(items))
    try:
        access.kubectl("wait", f"pod/{PROXY}", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=300s")
        with access.forward(f"pod/{PROXY}", 8080, NAMESPACE) as url:
            yield url
    finally:
        access.kubectl("delete", "configmap,pod", "--namespace", NAMESPACE, "--selector", f"app={PROXY}")


def versions(url: str, count: int) -> Counter[str]:
    """Return the number of predictions that each version made."""
    example = http(f"{url}/model")["input_example"]
    return Counter(http(f"{url}/predict", example)["model"]["version"] for _ in range(count))


def addresses(access: Access, service: str) -> set[str]:
    """Return the addresses of the pods behind a Service."""
    slices = access.get_all("endpointslice", f"kubernetes.io/service-name={service}", NAMESPACE)
    return {address for each in slices for endpoint in each["endpoints"] for address in endpoint["addresses"]}


def test_requests_are_split_compared_and_promoted_by_values(
    access: Access, model: str, proxy: str, prometheus: str
) -> None:
    job = f'job="{FULLNAME}"'
    served, canary = (addresses(access, name) for name in (FULLNAME, CANARY))
    assert len(served) == len(canary) == 1
    assert not served & canary
    scraped = f'count by (job) (count_over_time(up{{job=~"{FULLNAME}(-canary)?"}}[10m]) >= 2)'
    wait_for_series(prometheus, f"count({scraped}) == 2")  # the increase from 0 counts

    found = versions(proxy, REQUESTS)

    assert found.keys() == {"1", "2"}
    assert abs(found["2"] - REQUESTS * WEIGHT / 100) <= 2, found
    versions(proxy, 3 * REQUESTS)  # 400 requests of the canary in all
    wait_for_series(prometheus, f"job:canary_requests:increase{{{job}}} >= 200")
    wait_for_series(prometheus, f"job:canary_errors:delta{{{job}}} == 0")
    wait_for_series(prometheus, f"job:canary_latency_p99:ratio{{{job}}} > 0")
    assert not promql(prometheus, f'ALERTS{{alertname=~"ModelCanary.*",reason!="latency",{job}}}')
    access.helm("test", RELEASE, "--namespace", NAMESPACE)

    upgraded(access, model, model__uri=f"models:/{model}/2", canary__enabled="false")

    [rule] = access.get("httproute", FULLNAME, NAMESPACE)["spec"]["rules"]
    assert [each["name"] for each in rule["backendRefs"]] == [FULLNAME]
    assert access.get("deployment", CANARY, NAMESPACE) is None
    with access.forward(f"deployment/{FULLNAME}", 8000, NAMESPACE) as url:
        assert versions(url, 3) == {"2": 3}
