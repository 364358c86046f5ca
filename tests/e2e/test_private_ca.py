"""Tests of MLflow behind TLS with a private CA: trusted through a ConfigMap, otherwise rejected with a clear error."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.certificates import issue
from tests.e2e.test_failures import container, termination_message, unready_release
from tools.cluster.access import Access, http
from tools.cluster.console import wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import ALIAS, MODEL, MONITORING, NAMESPACE, OBSERVABILITY

# Short name of MLflow's Service, which the server accepts as Host. In the models' namespace it is the proxy.
HOST = f"{OBSERVABILITY}-mlflow"
URI = f"https://{HOST}:5000"
PROXY = (Path(__file__).parent / "tls_proxy.py").read_text()


def _objects(folder: Path) -> list[dict[str, Any]]:
    """Return the CAs, and a TLS proxy with the name of MLflow in the models' namespace."""
    (folder / "other").mkdir()
    issue(folder, "ca", "/CN=company-ca", "")
    issue(folder, "mlflow", f"/CN={HOST}", f"DNS:{HOST}")
    issue(folder / "other", "ca", "/CN=other-ca", "")
    labels = {"app": "mlflow-tls"}
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    command = ["python3", "-c", PROXY, f"{HOST}.{MONITORING}.svc.cluster.local", "5000"]
    mounts = [{"name": "tls", "mountPath": "/tls", "readOnly": True}]
    probe = {"tcpSocket": {"port": 5000}, "periodSeconds": 1}
    proxy = {"name": "proxy", "image": APP.reference, "command": command, "securityContext": secure}
    pod = {
        "containers": [{**proxy, "volumeMounts": mounts, "readinessProbe": probe}],
        "volumes": [{"name": "tls", "secret": {"secretName": "mlflow-tls"}}],
        "terminationGracePeriodSeconds": 1,
    }
    tls = {"tls.crt": (folder / "mlflow.crt").read_text(), "tls.key": (folder / "mlflow.key").read_text()}
    parts: list[tuple[str, str, dict[str, Any]]] = [
        ("ConfigMap", "company-ca", {"data": {"ca.crt": (folder / "ca.crt").read_text()}}),
        ("ConfigMap", "other-ca", {"data": {"ca.crt": (folder / "other" / "ca.crt").read_text()}}),
        ("Secret", "mlflow-tls", {"stringData": tls}),
        ("Service", HOST, {"spec": {"selector": labels, "ports": [{"port": 5000}]}}),
        ("Pod", "mlflow-tls", {"spec": pod}),
    ]
    return [
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}, **rest}
        for kind, name, rest in parts
    ]


@pytest.fixture(scope="module", autouse=True)
def _mlflow_with_tls(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    items = {"apiVersion": "v1", "kind": "List", "items": _objects(tmp_path_factory.mktemp("pki"))}
    access.kubectl("apply", "--namespace", NAMESPACE, "-f", "-", stdin=json.dumps(items))
    try:
        access.kubectl("wait", "pod/mlflow-tls", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=300s")
        yield
    finally:
        kinds = "configmap,secret,service,pod"
        access.kubectl("delete", kinds, "--namespace", NAMESPACE, "--selector", "app=mlflow-tls")


def _values(authority: str) -> list[str]:
    chosen = [f"--set-string=mlflow.caBundle.existingConfigMap={authority}"] if authority else []
    return [f"--set-string=mlflow.trackingUri={URI}", *chosen]


def test_model_is_loaded_with_a_private_ca(access: Access) -> None:
    with unready_release(access, "trusting", f"models:/{MODEL}@{ALIAS}", *_values("company-ca")) as selector:
        ready = lambda: container(access, selector).get("ready")  # noqa: E731
        wait_for("a pod that trusts the CA", ready, timeout_seconds=300, remedy="")
        with access.forward("service/trusting-model-service", 80, NAMESPACE) as url:
            example = http(f"{url}/model")["input_example"]
            assert http(f"{url}/predict", example)["model"]["name"] == MODEL


@pytest.mark.parametrize("authority", ["other-ca", ""], ids=["different CA", "default CAs"])
def test_unknown_ca_is_reported_in_the_termination_message(access: Access, authority: str) -> None:
    with unready_release(access, "distrusting", f"models:/{MODEL}@{ALIAS}", *_values(authority)) as selector:
        message = termination_message(access, selector)

        assert URI in message
        assert "its certificate is not trusted" in message
        assert "\n" not in message.strip()
        assert not container(access, selector)["ready"]
