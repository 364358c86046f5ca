"""Tests that the manifests in docs/how-to/gitops are valid for Argo CD, Flux and the chart."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.harness import container, environment, only, rendered
from tests.charts.schemas import closed, definitions_in
from tests.charts.schemas import schemas as kinds_of
from tools.charts import MODEL_SERVICE, program, render
from tools.cluster.cache import ROOT
from tools.cluster.programs import KUBERNETES_VERSION

FOLDER = ROOT / "docs" / "how-to" / "gitops"
# The newest versions that the installed Go can fetch.
DEFINITIONS = (
    ("github.com/argoproj/argo-cd/v3@v3.4.0", "manifests/crds/application-crd.yaml"),
    ("github.com/argoproj/argo-cd/v3@v3.4.0", "manifests/crds/applicationset-crd.yaml"),
    ("github.com/fluxcd/helm-controller@v1.4.0", "config/crd/bases/helm.toolkit.fluxcd.io_helmreleases.yaml"),
    ("github.com/fluxcd/source-controller@v1.8.0", "config/crd/bases/source.toolkit.fluxcd.io_ocirepositories.yaml"),
    ("github.com/argoproj/argo-rollouts@v1.9.0", "manifests/crds/rollout-crd.yaml"),
    ("github.com/argoproj/argo-rollouts@v1.9.0", "manifests/crds/analysis-template-crd.yaml"),
)
MANIFESTS = {path.name: list(yaml.safe_load_all(path.read_text())) for path in sorted(FOLDER.glob("*.yaml"))}


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a closed schema per kind and version, named as kubeconform expects."""
    folder = tmp_path_factory.mktemp("schemas")
    for module, path in DEFINITIONS:
        for definition in definitions_in(module, path):
            for served in definition["spec"]["versions"]:
                name = f"{definition['spec']['names']['kind']}-{served['name']}.json".lower()
                (folder / name).write_text(json.dumps(closed(served["schema"]["openAPIV3Schema"])))
    return folder


def findings(text: str, schemas: Path) -> list[dict[str, Any]]:
    """Return the findings of kubeconform."""
    locations = [
        f"{schemas}/{{{{ .ResourceKind }}}}-{{{{ .ResourceAPIVersion }}}}.json",
        f"{kinds_of(KUBERNETES_VERSION)}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json",
    ]
    command = [program("kubeconform"), "-strict", "-output=json", *(f"-schema-location={at}" for at in locations), "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=False)
    return list(json.loads(done.stdout).get("resources") or [])


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_match_the_definitions(name: str, schemas: Path) -> None:
    assert findings((FOLDER / name).read_text(), schemas) == []


def test_unknown_key_is_rejected(schemas: Path) -> None:
    text = (FOLDER / "argocd.yaml").read_text().replace("targetRevision:", "targetRevsion:")

    assert "targetRevsion" in str(findings(text, schemas))


def test_both_tools_deploy_the_same_valid_values() -> None:
    [application] = MANIFESTS["argocd.yaml"]
    [repository, release] = MANIFESTS["flux.yaml"]
    argo, flux = application["spec"]["source"]["helm"]["valuesObject"], release["spec"]["values"]
    version = yaml.safe_load((MODEL_SERVICE / "Chart.yaml").read_text())["version"]

    assert argo == flux
    assert {item["kind"] for item in rendered(argo)} >= {"Deployment", "Service"}
    assert application["spec"]["source"]["targetRevision"] == repository["spec"]["ref"]["tag"] == version
    source = application["spec"]["source"]
    assert f"oci://{source['repoURL']}/{source['chart']}" == repository["spec"]["url"]


def test_umbrella_is_applied_by_the_server_with_a_lasting_password() -> None:
    [application] = MANIFESTS["observability.yaml"]
    source = application["spec"]["source"]
    chart = yaml.safe_load((ROOT / source["path"] / "Chart.yaml").read_text())
    [profile] = source["helm"]["valueFiles"]
    grafana = yaml.safe_load((ROOT / source["path"] / profile).read_text())["kube-prometheus-stack"]["grafana"]

    assert "ServerSideApply=true" in application["spec"]["syncPolicy"]["syncOptions"]
    assert source["targetRevision"] == f"v{chart['version']}"
    assert grafana["admin"]["existingSecret"]
    assert (ROOT / source["path"] / "Chart.lock").exists()


def applications(models: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return the Applications that the ApplicationSet creates: Argo CD replaces the expressions in its template."""
    [created] = MANIFESTS["applicationset.yaml"]
    template = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", **created["spec"]["template"]}
    found = []
    for model in models:
        text = re.sub(r"\{\{ \.(\w+) \}\}", lambda name, model=model: model[name[1]], json.dumps(template))  # type: ignore[misc]
        found.append(json.loads(text))
    return found


def test_application_set_creates_a_release_with_small_pods_for_each_model(schemas: Path) -> None:
    models = [{"name": f"model-{i}", "namespace": "models", "version": str(i)} for i in range(1, 301)]

    created = applications(models)
    source = created[-1]["spec"]["source"]
    files = [MODEL_SERVICE / name for name in source["helm"]["valueFiles"]]
    objects = render(
        MODEL_SERVICE,
        source["helm"]["valuesObject"],
        files=files,
        release=source["helm"]["releaseName"],
        namespace="models",
    )

    assert findings("---\n".join(json.dumps(each) + "\n" for each in created), schemas) == []
    assert len({each["metadata"]["name"] for each in created}) == 300
    assert environment(objects)["MODEL_SERVICE_MODEL_URI"] == "models:/model-300/300"
    assert container(objects)["resources"]["requests"] == {"cpu": "25m", "memory": "96Mi"}
    assert {"ServiceMonitor", "PrometheusRule"} <= {each["kind"] for each in objects}
    [single] = MANIFESTS["argocd.yaml"]
    keys = ("repoURL", "chart", "targetRevision")
    assert [source[key] for key in keys] == [single["spec"]["source"][key] for key in keys]


def test_rollout_splits_the_route_and_takes_the_pods_of_the_release() -> None:
    rollout, service, _ = MANIFESTS["rollouts.yaml"]
    canary = {"service": service["metadata"]["name"], "weight": 0}
    route = {"enabled": True, "parentRefs": [{"name": "public"}], "canary": canary}
    values = {"replicaCount": 0, "httpRoute": route, "model": {"uri": "models:/churn/7"}}
    objects = rendered({**values, "mlflow": {"trackingUri": "http://mlflow:5000"}}, release="churn")
    deployment, served = only(objects, "Deployment"), only(objects, "Service")
    strategy = rollout["spec"]["strategy"]["canary"]
    [rule] = only(objects, "HTTPRoute")["spec"]["rules"]

    assert rollout["spec"]["workloadRef"]["name"] == deployment["metadata"]["name"]
    assert rollout["spec"]["selector"] == deployment["spec"]["selector"]
    assert service["spec"]["selector"] == served["spec"]["selector"]
    assert [each["name"] for each in rule["backendRefs"]] == [strategy["stableService"], strategy["canaryService"]]
    assert strategy["trafficRouting"]["plugins"]["argoproj-labs/gatewayAPI"]["httpRoute"] == served["metadata"]["name"]
    assert deployment["spec"]["replicas"] == 0


def test_rollout_asks_for_series_that_exist(tmp_path: Path) -> None:
    *_, template = MANIFESTS["rollouts.yaml"]
    queries = [each["provider"]["prometheus"]["query"] for each in template["spec"]["metrics"]]
    rules = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    command = [program("promtool"), "check", "rules", "rules.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    metrics = {name for query in queries for name in re.findall(r"([\w:]+)\{", query)}
    known = (ROOT / "docs" / "reference" / "metrics.md").read_text() + "".join(
        path.read_text() for path in (MODEL_SERVICE / "files" / "rules").glob("*.yaml")
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(queries) == 4
    assert not [name for name in metrics if name not in known]


def test_pages_show_the_files() -> None:
    text = "".join((ROOT / "docs" / "how-to" / page).read_text() for page in ("gitops.md", "canary.md"))

    assert all(f"gitops/{name}" in text for name in MANIFESTS)
