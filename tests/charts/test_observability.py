"""Tests of the umbrella chart: pinned dependencies, their values, and the copy that renders without a registry."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.charts.harness import kinds, only, show_notes
from tests.charts.schemas import problems
from tools.charts import MLFLOW, OBSERVABILITY, HelmError, Values, program, render
from tools.cluster.programs import clients
from tools.cluster.umbrella import DEPENDENCY, copy_umbrella, pinned_version

CHART = yaml.safe_load((OBSERVABILITY / "Chart.yaml").read_text())
VALUES = yaml.safe_load((OBSERVABILITY / "values.yaml").read_text())
WITHOUT_STACK = {DEPENDENCY: {"enabled": False}}
PRODUCTION = "values-production.yaml"
CLOUDS = OBSERVABILITY.parents[1] / "docs" / "how-to" / "mlflow-in-the-cloud"
# Files that work without the stack, and the values that they require from the user.
FILES: dict[str, Values] = {
    "ci/mlflow-values.yaml": {},
    "values-existing-prometheus.yaml": {},
    "values-openshift.yaml": WITHOUT_STACK,
    PRODUCTION: {**WITHOUT_STACK, "mlflow": {"mlflow": {"artifactsDestination": "s3://models/mlflow"}}},
}


@pytest.fixture
def umbrella(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy of the umbrella chart with a placeholder dependency."""
    monkeypatch.delenv("KPS_CHART", raising=False)
    return copy_umbrella(tmp_path / "observability")


def archive(folder: Path, version: str) -> Path:
    """Write a packaged chart with the name of the stack and one object, and return its path."""
    chart = folder / "packaged" / DEPENDENCY
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {DEPENDENCY}\nversion: {version}\n")
    (chart / "templates" / "configmap.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: real\n")
    packed = folder / "stack.tgz"
    with tarfile.open(packed, "w:gz") as file:
        file.add(chart, arcname=DEPENDENCY)
    return packed


@pytest.mark.parametrize("kind", ["serviceMonitor", "podMonitor", "rule", "probe", "scrapeConfig"])
def test_prometheus_selects_objects_of_all_releases(kind: str) -> None:
    assert VALUES[DEPENDENCY]["prometheus"]["prometheusSpec"][f"{kind}SelectorNilUsesHelmValues"] is False


def test_only_our_own_targets_are_scraped_every_fifteen_seconds(umbrella: Path) -> None:
    monitor = only(render(umbrella, WITHOUT_STACK), "ServiceMonitor")

    assert {endpoint["interval"] for endpoint in monitor["spec"]["endpoints"]} == {"15s"}
    assert "scrapeInterval" not in VALUES[DEPENDENCY]["prometheus"]["prometheusSpec"], "of every target"


def test_role_of_grafana_reads_config_maps_only() -> None:
    [role] = VALUES[DEPENDENCY]["extraManifests"].values()
    grafana = VALUES[DEPENDENCY]["grafana"]

    assert role["metadata"]["name"] == grafana["rbac"]["useExistingClusterRole"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "watch", "list"]}]
    assert {grafana["sidecar"][each]["resource"] for each in ("dashboards", "datasources")} == {"configmap"}


@pytest.mark.parametrize("command", ["helm", "helm3"])
def test_one_command_installs_without_the_package_of_the_stack(tmp_path: Path, command: str) -> None:
    """`--dependency-update` fetches what the chart does not contain, here from a folder instead of the registry."""
    chart = tmp_path / "observability"
    shutil.copytree(OBSERVABILITY, chart, ignore=shutil.ignore_patterns("*.tgz"))
    stack = copy_umbrella(tmp_path / "copy") / "charts" / DEPENDENCY
    about = chart / "Chart.yaml"
    about.write_text(about.read_text().replace("oci://ghcr.io/prometheus-community/charts", f"file://{stack}"))
    (chart / "Chart.lock").unlink()
    assert not (chart / "charts" / DEPENDENCY).exists()
    helm = [str(clients() / command), "template", "obs", str(chart), f"--set={DEPENDENCY}.enabled=false"]

    missing = subprocess.run(helm, capture_output=True, text=True, timeout=300, check=False)
    found = subprocess.run([*helm, "--dependency-update"], capture_output=True, text=True, timeout=300, check=False)

    assert DEPENDENCY in missing.stderr, "missing in charts/"
    assert (missing.returncode, found.returncode) == (1, 0), found.stderr
    assert 'name: "obs-mlflow"' in found.stdout


def test_dependencies_are_pinned_and_conditional() -> None:
    for dependency in CHART["dependencies"]:
        assert dependency["version"].replace(".", "").isdigit()
        assert dependency["condition"] == f"{dependency['name']}.enabled"
        assert VALUES[dependency["name"]]["enabled"] is True


def test_lock_matches_the_pinned_versions() -> None:
    lock = yaml.safe_load((OBSERVABILITY / "Chart.lock").read_text())
    fields = ("name", "version", "repository", "condition")
    wanted = [{key: dependency[key] for key in fields} for dependency in CHART["dependencies"]]
    locked = [{key: dependency[key] for key in fields[:3]} for dependency in lock["dependencies"]]

    # Helm's own digest (internal/resolver.HashReq): the JSON of both lists.
    digest = hashlib.sha256(json.dumps([wanted, locked], separators=(",", ":")).encode()).hexdigest()

    assert locked == [{key: dependency[key] for key in fields[:3]} for dependency in wanted]
    assert lock["digest"] == f"sha256:{digest}"


def test_only_template_is_the_notes() -> None:
    assert [path.name for path in (OBSERVABILITY / "templates").iterdir()] == ["NOTES.txt"]


def test_mlflow_service_is_named_obs_mlflow(umbrella: Path) -> None:
    objects = render(umbrella, WITHOUT_STACK, release="obs", namespace="monitoring")

    service = only(objects, "Service")

    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == ("obs-mlflow", "monitoring")
    assert service["spec"]["ports"][0]["port"] == 5000


def test_umbrella_adds_only_monitoring_to_mlflow(umbrella: Path) -> None:
    expected = [*kinds(render(MLFLOW)), "ConfigMap", "PrometheusRule", "ServiceMonitor"]

    assert kinds(render(umbrella, WITHOUT_STACK)) == sorted(expected)


@pytest.mark.parametrize("name", FILES)
def test_file_renders_valid_objects(umbrella: Path, name: str) -> None:
    objects = render(umbrella, FILES[name], files=[umbrella / name], release="obs", namespace="monitoring")

    assert only(objects, "Deployment")["metadata"]["name"] == "obs-mlflow"
    assert problems(objects) == []


@pytest.mark.parametrize("cloud", ["aks", "eks", "gke"])
def test_file_of_a_cloud_renders_valid_objects(umbrella: Path, cloud: str) -> None:
    files = [umbrella / PRODUCTION, CLOUDS / f"{cloud}.yaml"]
    collect = {"garbageCollection": {"enabled": True}}

    objects = render(umbrella, {**WITHOUT_STACK, "mlflow": collect}, files=files, release="obs", namespace="monitoring")

    (server,) = [each for each in objects if each["kind"] == "Deployment"]
    job = only(objects, "CronJob")["spec"]["jobTemplate"]
    names = {each["spec"]["template"]["spec"]["serviceAccountName"] for each in (server, job)}
    assert names == {only(objects, "ServiceAccount")["metadata"]["name"]}
    assert only(objects, "ServiceAccount")["metadata"]["annotations"]
    assert problems(objects) == []


def test_single_sign_on_lets_nobody_pass_the_proxy(umbrella: Path) -> None:
    objects = render(
        umbrella, WITHOUT_STACK, files=[CLOUDS / "oauth2-proxy.yaml"], release="obs", namespace="monitoring"
    )
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    proxy = by_name["Deployment", "mlflow-sso"]["spec"]["template"]
    [ingress] = [each for each in objects if each["kind"] == "Ingress"]
    [rule] = ingress["spec"]["rules"]
    clients = by_name["NetworkPolicy", "obs-mlflow"]["spec"]["ingress"]
    server = by_name["Deployment", "obs-mlflow"]["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: each.get("value") for each in server["env"]}

    assert problems(objects) == []
    assert "--upstream=http://obs-mlflow:5000" in proxy["spec"]["containers"][0]["args"]
    assert {"podSelector": {"matchLabels": proxy["metadata"]["labels"]}} in clients[0]["from"]
    assert rule["http"]["paths"][0]["backend"]["service"]["name"] == "mlflow-sso", "and not MLflow's own"
    assert "mlflow.example.com" in environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == f"https://{rule['host']}"


def test_existing_prometheus_selects_mlflow_by_label(umbrella: Path) -> None:
    objects = render(umbrella, files=[umbrella / "values-existing-prometheus.yaml"])

    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert only(objects, kind)["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_production_has_two_pods_without_a_volume(umbrella: Path) -> None:
    objects = render(umbrella, FILES[PRODUCTION], files=[umbrella / PRODUCTION])

    assert only(objects, "Deployment")["spec"]["replicas"] == 2
    assert "PodDisruptionBudget" in kinds(objects)
    assert "PersistentVolumeClaim" not in kinds(objects)


def test_production_requires_a_bucket(umbrella: Path) -> None:
    with pytest.raises(HelmError, match="artifactsDestination"):
        render(umbrella, WITHOUT_STACK, files=[umbrella / PRODUCTION])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prometheus": {}}, "'prometheus' not allowed"),
        ({DEPENDENCY: {"enabled": "yes"}}, "got string, want boolean"),
        ({"mlflow": {"enabled": "yes"}}, "got string, want boolean"),
        ({"mlflow": {"serviceMonitors": {}}}, "'serviceMonitors' not allowed"),
        ({"mlflow": {"monitoring": {"serviceMonitors": {}}}}, "'serviceMonitors' not allowed"),
    ],
)
def test_unknown_keys_are_rejected(umbrella: Path, values: Values, message: str) -> None:
    with pytest.raises(HelmError, match=message):
        render(umbrella, values)


def test_any_key_of_the_stack_is_accepted(umbrella: Path) -> None:
    stack = {"enabled": False, "defaultRules": {"create": False}, "grafana": {"persistence": {"enabled": True}}}

    assert render(umbrella, {DEPENDENCY: stack})


@pytest.mark.parametrize("release", ["obs", "x", "team-a-observability-of-all-the-risk-models-in-europe", "mlflow"])
@pytest.mark.parametrize("values", [{}, {"fullnameOverride": "tracking", "service": {"port": 80}}], ids=["", "renamed"])
def test_notes_name_the_services_of_the_release(umbrella: Path, values: Values, release: str) -> None:
    show_notes(umbrella)

    objects = render(umbrella, {**WITHOUT_STACK, "mlflow": values}, release=release, namespace="monitoring")
    text = next(item for item in objects if item["metadata"]["name"] == "notes")["data"]["text"]
    service = only(objects, "Service")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]

    assert f"trackingUri: http://{name}.monitoring.svc.cluster.local:{port}\n" in text
    assert f"kubectl -n monitoring port-forward service/{name} 5000:{port} " in text
    assert "This release does not include Prometheus." in text
    assert "existingSecret" not in text


def test_notes_show_the_secret_that_auth_requires(umbrella: Path) -> None:
    show_notes(umbrella)
    auth = {"enabled": True, "existingSecret": "login"}
    off = {"enabled": False}
    mlflow = {"auth": auth, "monitoring": {"serviceMonitor": off, "prometheusRule": off}}

    objects = render(umbrella, {**WITHOUT_STACK, "mlflow": mlflow})

    text = next(item for item in objects if item["metadata"]["name"] == "notes")["data"]["text"]
    assert "existingSecret: <a Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in text
    assert "MLflow itself is not scraped" in text


@pytest.mark.parametrize(
    ("values", "reminded"),
    [
        ({}, True),
        ({"auth": {"enabled": True, "existingSecret": "login"}}, False),
        ({"networkPolicy": {"enabled": True, "ingressFrom": [{"podSelector": {}}]}}, False),
    ],
)
def test_notes_say_that_everybody_can_move_an_alias(umbrella: Path, values: Values, reminded: bool) -> None:
    show_notes(umbrella)

    objects = render(umbrella, {**WITHOUT_STACK, "mlflow": values})

    text = next(item for item in objects if item["metadata"]["name"] == "notes")["data"]["text"]
    assert ("can move an alias" in text) is reminded


def test_notes_explain_direct_bucket_access(umbrella: Path) -> None:
    show_notes(umbrella)

    texts = []
    for values, files in ((WITHOUT_STACK, []), (FILES[PRODUCTION], [umbrella / PRODUCTION])):
        objects = render(umbrella, values, files=files)
        notes = next(item for item in objects if item["metadata"]["name"] == "notes")
        texts.append("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false" in notes["data"]["text"])

    assert texts == [False, True]


def test_ct_lints_the_umbrella(umbrella: Path) -> None:
    command = [program("ct"), "lint", f"--charts={umbrella}", "--skip-helm-dependencies"]
    root = OBSERVABILITY.parents[1]

    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "mlflow-values.yaml" in done.stdout


def test_mlflow_absent_when_disabled(umbrella: Path) -> None:
    assert render(umbrella, {**WITHOUT_STACK, "mlflow": {"enabled": False}}) == []


def test_copy_does_not_change_the_original(umbrella: Path) -> None:
    assert (umbrella / "charts" / DEPENDENCY / "Chart.yaml").is_file()
    assert not (OBSERVABILITY / "charts" / DEPENDENCY).exists()


def test_copy_contains_the_real_chart_if_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPS_CHART", str(archive(tmp_path, pinned_version())))

    none = {DEPENDENCY: {"prometheus": {"enabled": False}, "alertmanager": {"enabled": False}}}
    objects = render(copy_umbrella(tmp_path / "copy"), {**none, "mlflow": {"enabled": False}})

    assert [item["metadata"]["name"] for item in objects] == ["real"]


def test_copy_rejects_a_different_chart_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPS_CHART", str(archive(tmp_path, "1.2.3")))

    with pytest.raises(ValueError, match=f"is not {DEPENDENCY} {pinned_version()}, which the umbrella pins"):
        copy_umbrella(tmp_path / "copy")
