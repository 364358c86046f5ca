"""Tests of the umbrella chart with the real kube-prometheus-stack: every profile, and every key that we set.

They need its package (KPS_CHART, or `helm dependency build`). Without it they are skipped and counted.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.harness import Promtool, kinds, show_notes
from tests.charts.schemas import KUBERNETES_VERSIONS, problems
from tools.charts import OBSERVABILITY, Object, Values, render
from tools.cluster.umbrella import DEPENDENCY, copy_umbrella

BUCKET: Values = {"mlflow": {"mlflow": {"artifactsDestination": "s3://models/mlflow"}}}
PROFILES: dict[str, tuple[list[str], Values]] = {
    "default": ([], {}),
    "kind": (["kind"], {}),
    "managed": (["managed"], {}),
    "production": (["managed", "production"], BUCKET),
    "existing-prometheus": (["existing-prometheus"], {}),
    "openshift": (["existing-prometheus", "openshift"], {}),
}
WITH_STACK = [name for name, (files, _) in PROFILES.items() if "existing-prometheus" not in files]
# Its values.yaml has it in a comment only. test_grafana_may_not_read_secrets shows its effect.
COMMENTED_OUT = {f"{DEPENDENCY}.grafana.rbac.useExistingClusterRole"}
CONTROL_PLANE = ("kube-controller-manager", "kube-etcd", "kube-proxy", "kube-scheduler")


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the umbrella chart with the real stack that renders its notes as an object."""
    copy = copy_umbrella(tmp_path_factory.mktemp("stack") / "observability")
    show_notes(copy)
    return copy


def profile(umbrella: Path, name: str, values: Values | None = None, release: str = "obs") -> list[Object]:
    """Return the objects of a profile, including `helm test` pods."""
    names, needed = PROFILES[name]
    files = [umbrella / f"values-{each}.yaml" for each in names]
    return render(umbrella, {**needed, **(values or {})}, files=files, release=release, namespace="monitoring")


def named(objects: list[Object], kind: str, name: str) -> Object:
    """Return the object with a kind and name."""
    found = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name} is not among {sorted(i['metadata']['name'] for i in objects)}"
    return found[0]


def test_every_profile_file_is_tested() -> None:
    files = {path.stem.removeprefix("values-") for path in OBSERVABILITY.glob("values-*.yaml")}

    assert files == {name for names, _ in PROFILES.values() for name in names}


@pytest.mark.parametrize("kubernetes", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("name", PROFILES)
def test_profile_is_valid(umbrella: Path, name: str, kubernetes: str) -> None:
    objects = profile(umbrella, name)

    assert "Deployment" in kinds(objects)
    assert problems(without_nulls(objects), kubernetes) == []


def without_nulls(value: Any) -> Any:
    """Return a tree without null values, which the stack renders and the API treats as absent."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def unknown(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    """Yield the keys of `ours` that `theirs` lacks. An empty value in `theirs` accepts any key."""
    if not isinstance(ours, dict) or not theirs:
        return
    if not isinstance(theirs, dict):
        yield f"{path} is not a mapping"
        return
    for key, value in ours.items():
        if key not in theirs:
            yield f"{path}.{key}"
        else:
            yield from unknown(value, theirs[key], f"{path}.{key}")


def upstream(umbrella: Path) -> dict[str, Any]:
    """Return the values of the stack, merged over those of its subcharts."""
    stack = umbrella / "charts" / DEPENDENCY
    values: dict[str, Any] = yaml.safe_load((stack / "values.yaml").read_text())
    for chart in (path.parent for path in stack.glob("charts/*/values.yaml")):
        values[chart.name] = merged(yaml.safe_load((chart / "values.yaml").read_text()), values.get(chart.name) or {})
    return values


def merged(below: Any, above: Any) -> Any:
    """Return one tree of values merged over another, as Helm does."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {key: merged(below.get(key), above[key]) if key in above else below[key] for key in below | above}


@pytest.mark.parametrize("path", sorted(OBSERVABILITY.glob("values*.yaml")), ids=lambda path: path.stem)
def test_every_key_exists_in_the_stack(umbrella: Path, path: Path) -> None:
    ours = dict(yaml.safe_load(path.read_text()).get(DEPENDENCY, {}))
    ours.pop("enabled", None)  # the condition of the dependency

    assert set(unknown(ours, upstream(umbrella), DEPENDENCY)) <= COMMENTED_OUT


def test_unknown_key_is_detected(umbrella: Path) -> None:
    wrong = {"grafana": {"sidecar": {"dashboards": {"folderAnotation": "x"}}}, "prometheus": {"spec": {}}}

    found = list(unknown(wrong, upstream(umbrella), DEPENDENCY))

    assert found == [f"{DEPENDENCY}.grafana.sidecar.dashboards.folderAnotation", f"{DEPENDENCY}.prometheus.spec"]


@pytest.mark.parametrize("name", WITH_STACK)
def test_prometheus_selects_objects_of_all_namespaces(umbrella: Path, name: str) -> None:
    spec = named(profile(umbrella, name), "Prometheus", "obs-prometheus")["spec"]

    for kind in ("serviceMonitor", "podMonitor", "rule", "probe", "scrapeConfig"):
        assert spec[f"{kind}Selector"] == {}, kind
        assert spec[f"{kind}NamespaceSelector"] == {}, kind
    assert "scrapeInterval" not in spec, "30 s, the operator's default, for targets that do not set their own"
    assert spec["enableFeatures"] == ["exemplar-storage"]


@pytest.mark.parametrize("name", WITH_STACK)
def test_hidden_control_plane_is_not_scraped(umbrella: Path, name: str) -> None:
    names = [item["metadata"]["name"] for item in profile(umbrella, name)]

    assert [found for found in names if found.endswith(CONTROL_PLANE)] == []
    assert "obs-kubelet" in names, "the kubelet is scraped"


def test_grafana_loads_dashboards_of_all_namespaces_into_folders(umbrella: Path) -> None:
    objects = profile(umbrella, "default")
    grafana = named(objects, "Deployment", "obs-grafana")["spec"]["template"]["spec"]["containers"]
    sidecar = next(item for item in grafana if item["name"] == "grafana-sc-dashboard")
    environment = {entry["name"]: entry.get("value") for entry in sidecar["env"]}
    provider = yaml.safe_load(named(objects, "ConfigMap", "obs-grafana-config-dashboards")["data"]["provider.yaml"])
    source = named(objects, "ConfigMap", "obs-grafana-datasource")["data"]["datasource.yaml"]
    prometheus = yaml.safe_load(source)["datasources"][0]

    assert (environment["NAMESPACE"], environment["FOLDER_ANNOTATION"]) == ("ALL", "grafana_folder")
    assert (environment["LABEL"], environment["LABEL_VALUE"]) == ("grafana_dashboard", "1")
    assert provider["providers"][0]["options"]["foldersFromFilesStructure"] is True
    assert (prometheus["isDefault"], prometheus["jsonData"]["timeInterval"]) == (True, "30s")
    assert prometheus["url"].startswith("http://obs-prometheus.monitoring:9090")


@pytest.mark.parametrize("name", WITH_STACK)
def test_grafana_may_not_read_secrets(umbrella: Path, name: str) -> None:
    objects = profile(umbrella, name)
    account = named(objects, "Deployment", "obs-grafana")["spec"]["template"]["spec"]["serviceAccountName"]
    roles = {
        item["roleRef"]["name"]
        for item in objects
        if item["kind"].endswith("RoleBinding") and account in [subject["name"] for subject in item["subjects"]]
    }
    sidecars = named(objects, "Deployment", "obs-grafana")["spec"]["template"]["spec"]["containers"]
    kinds_read = {entry["value"] for each in sidecars for entry in each.get("env", []) if entry["name"] == "RESOURCE"}

    assert roles == {"obs-grafana-configmaps"}
    assert [rule["resources"] for rule in named(objects, "ClusterRole", roles.pop())["rules"]] == [["configmaps"]]
    assert kinds_read == {"configmap"}


def containers(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all containers of pods."""
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key in ("containers", "initContainers"):
            yield from child or []
        yield from containers(child)


def test_managed_has_requests_and_limits_of_every_container(umbrella: Path) -> None:
    objects = profile(umbrella, "managed")
    custom = [item["spec"] for item in objects if item["kind"] in ("Prometheus", "Alertmanager")]
    operator = next(
        each for each in containers(objects) if "--config-reloader-memory-limit=64Mi" in each.get("args", [])
    )
    assert "--config-reloader-cpu-request=10m" in operator["args"]

    found = [*containers(objects), *custom]

    assert len(found) >= 14
    without = [
        each.get("name", "custom resource")
        for each in found
        if {"cpu", "memory"} - each.get("resources", {}).get("requests", {}).keys()
        or "memory" not in each["resources"].get("limits", {})
    ]
    assert without == []


def test_alert_for_failed_jobs_ignores_a_refusal(umbrella: Path, promtool: Promtool, tmp_path: Path) -> None:
    """A refused training run completes its Job, as test_jobs.py shows, so kube-state-metrics reports no failure."""
    (groups,) = [
        item["spec"]
        for item in profile(umbrella, "default")
        if item["kind"] == "PrometheusRule" and "KubeJobFailed" in json.dumps(item)
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(groups))
    job = 'job="kube-state-metrics",namespace="models",job_name="churn-train-{}",condition="true"'
    series = [
        {"series": f"kube_job_complete{{{job.format('refused')}}}", "values": "1x200"},
        {"series": f"kube_job_failed{{{job.format('refused')}}}", "values": "0x200"},
        {"series": f"kube_job_failed{{{job.format('broken')}}}", "values": "1x200"},
    ]
    expression = {
        "expr": 'count by (job_name) (ALERTS{alertname="KubeJobFailed",alertstate="firing"})',
        "eval_time": "1h",
        "exp_samples": [{"labels": '{job_name="churn-train-broken"}', "value": 1}],
    }
    test = {"interval": "30s", "input_series": series, "promql_expr_test": [expression]}
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))

    assert "SUCCESS" in promtool(tmp_path, "test", "rules", "test.yaml")


def test_kind_has_no_webhooks(umbrella: Path) -> None:
    webhooks = {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}

    assert webhooks & set(kinds(profile(umbrella, "kind"))) == set()
    assert webhooks <= set(kinds(profile(umbrella, "default")))


def test_managed_stores_metrics_and_uses_an_existing_password(umbrella: Path) -> None:
    objects = profile(umbrella, "managed")
    spec = named(objects, "Prometheus", "obs-prometheus")["spec"]
    alertmanager = named(objects, "Alertmanager", "obs-alertmanager")["spec"]
    grafana = named(objects, "Deployment", "obs-grafana")["spec"]["template"]["spec"]["containers"]
    secrets = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for item in grafana
        for entry in item.get("env", [])
        if "secretKeyRef" in entry.get("valueFrom", {})
    }

    assert spec["storage"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"] == "50Gi"
    assert spec["retentionSize"] == "45GB"
    assert alertmanager["storage"]["volumeClaimTemplate"]
    assert secrets == {"grafana-admin"}
    assert "obs-grafana" not in [item["metadata"]["name"] for item in objects if item["kind"] == "Secret"]


def test_existing_prometheus_installs_no_second_operator(umbrella: Path) -> None:
    objects = profile(umbrella, "existing-prometheus")

    assert {"Prometheus", "Alertmanager", "ClusterRole"} & set(kinds(objects)) == set()
    assert named(objects, "ServiceMonitor", "obs-mlflow")["metadata"]["labels"]["release"] == "kube-prometheus-stack"


GRAFANA: Values = {DEPENDENCY: {"grafana": {"fullnameOverride": "charts", "namespaceOverride": "ui"}}}
RENAMED: Values = {
    DEPENDENCY: {"fullnameOverride": "kps", "grafana": {"admin": {"existingSecret": "login", "passwordKey": "pw"}}}
}
OTHER_PORTS: Values = {
    DEPENDENCY: {
        "prometheus": {"service": {"port": 80}},
        "alertmanager": {"service": {"port": 81}},
        "grafana": {"service": {"port": 82}},
    },
    "mlflow": {"service": {"port": 83}},
}
LESS: Values = {
    DEPENDENCY: {"grafana": {"enabled": False}, "alertmanager": {"enabled": False}},
    "mlflow": {"enabled": False},
}


@pytest.mark.parametrize("release", ["obs", "team-a-observability-of-the-risk-models", "grafana", "mlflow"])
@pytest.mark.parametrize(
    "values", [{}, GRAFANA, RENAMED, OTHER_PORTS, LESS], ids=["default", "grafana", "renamed", "ports", "less"]
)
def test_notes_name_existing_services_and_secrets(umbrella: Path, values: Values, release: str) -> None:
    objects = profile(umbrella, "default", values, release)
    text = named(objects, "ConfigMap", "notes")["data"]["text"]
    services = {
        (item["metadata"]["namespace"], item["metadata"]["name"]): {port["port"] for port in item["spec"]["ports"]}
        for item in objects
        if item["kind"] == "Service"
    }
    forwards = re.findall(r"kubectl -n (\S+) port-forward service/(\S+) \d+:(\d+) ", text)

    assert len(forwards) == (1 if values is LESS else 4)
    for namespace, name, port in forwards:
        assert int(port) in services[namespace, name]
    for namespace, name, key in re.findall(r"kubectl -n (\S+) get secret (\S+) -o jsonpath='{\.data\.(\S+)}'", text):
        secret = ("login", "pw") if values is RENAMED else (name, key)
        assert (name, key) == secret
        assert values is RENAMED or key in named(objects, "Secret", name)["data"]
        assert values is RENAMED or named(objects, "Secret", name)["metadata"]["namespace"] == namespace
    uris = re.findall(r"trackingUri: http://([^.\s]+)\.([^.\s]+)\.svc\.cluster\.local:(\d+)", text)
    assert len(uris) == (0 if values is LESS else 1)
    for name, namespace, port in uris:
        assert int(port) in services[namespace, name]
