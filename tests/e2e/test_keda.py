"""Tests of scaling with KEDA and a Prometheus trigger. They are long because KEDA is built from its Go module."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.charts.schemas import KEDA as MODULE
from tests.e2e.test_traffic import pods_follow_the_load
from tools.cluster.access import Access
from tools.cluster.images import KEDA
from tools.cluster.main_job import ALIAS, MODEL, MONITORING, NAMESPACE, RELEASE, install_model
from tools.cluster.registry import push
from tools.go import module

FULLNAME = f"{RELEASE}-model-service"
PARTS = ("crd", "general", "rbac", "manager", "metrics-server", "service_account")
PROMETHEUS = f"http://prometheus-operated.{MONITORING}.svc.cluster.local:9090"
RATE = f'sum(rate(http_server_requests_total{{namespace="{NAMESPACE}",job="{FULLNAME}",path="/predict"}}[1m]))'
# Share of the slots that requests need, waiting ones included, as in docs/how-to/autoscaling.md.
SLOTS = (
    f'sum(avg_over_time(http_server_requests_in_progress{{namespace="{NAMESPACE}",job="{FULLNAME}"}}[1m]))'
    f' / avg(model_concurrency_limit{{namespace="{NAMESPACE}",job="{FULLNAME}"}})'
)


def trigger(query: str, threshold: str) -> dict[str, object]:
    return {"type": "prometheus", "metadata": {"serverAddress": PROMETHEUS, "query": query, "threshold": threshold}}


def _manifests(access: Access, folder: Path) -> str:
    """Return KEDA's own manifests with our image and without its webhooks."""
    shutil.copytree(module(MODULE) / "config", folder / "config")
    for path in (folder / "config").rglob("*"):  # Go's module cache is read-only
        path.chmod(0o755 if path.is_dir() else 0o644)
    name, _, tag = KEDA.reference.rpartition(":")
    containers = "/spec/template/spec/containers/0"
    pull = [{"op": "replace", "path": f"{containers}/imagePullPolicy", "value": "IfNotPresent"}]
    alone = [{"op": "add", "path": f"{containers}/args/-", "value": "--enable-webhook-patching=false"}]
    upstream = ("ghcr.io/kedacore/keda", "ghcr.io/kedacore/keda-metrics-apiserver")
    text = {
        "resources": [f"config/{part}" for part in PARTS],
        "images": [{"name": image, "newName": name, "newTag": tag} for image in upstream],
        "patches": [
            {"target": {"kind": "Deployment"}, "patch": json.dumps(pull)},
            {"target": {"kind": "Deployment", "name": "keda-operator"}, "patch": json.dumps(alone)},
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return access.kubectl("kustomize", str(folder))


@pytest.fixture
def _keda(access: Access, tmp_path: Path) -> Iterator[None]:
    push(KEDA)
    manifests = _manifests(access, tmp_path / "keda")
    access.kubectl("apply", "--server-side", "-f", "-", stdin=manifests)
    try:
        for name in ("keda-operator", "keda-metrics-apiserver"):
            access.kubectl("rollout", "status", f"deployment/{name}", "--namespace=keda", "--timeout=300s")
        served = "apiservice/v1beta1.external.metrics.k8s.io"
        access.kubectl("wait", served, "--for=condition=Available", "--timeout=300s")
        yield
        install_model(access)  # removes the ScaledObject while its operator can still remove the finalizer
    finally:
        access.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=manifests)


@pytest.mark.long
@pytest.mark.usefixtures("_keda")
@pytest.mark.parametrize(
    ("scaler", "slots"), [(trigger(RATE, "50"), 32), (trigger(SLOTS, "0.7"), 1)], ids=["rate", "slots"]
)
def test_prometheus_trigger_scales_out_and_in(access: Access, scaler: dict[str, object], slots: int) -> None:
    install_model(
        access, f"models:/{MODEL}@{ALIAS}", "--set=autoscaling.keda.enabled=true",
        "--set=autoscaling.minReplicas=1", "--set=autoscaling.keda.pollingIntervalSeconds=5",
        f"--set-json=autoscaling.keda.triggers={json.dumps([scaler])}", f"--set=api.maxConcurrency={slots}",
        "--set=autoscaling.behavior.scaleDown.stabilizationWindowSeconds=15",
    )  # fmt: skip
    access.kubectl("wait", f"scaledobject/{FULLNAME}", f"--namespace={NAMESPACE}", "--for=condition=Ready")
    pods_follow_the_load(access, patience_seconds=240)
