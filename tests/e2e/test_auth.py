"""Tests of API keys, tokens of service accounts and traces: keys rotate without a restart, spans reach a collector."""

import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.collector import PORT
from tools.cluster.access import Access
from tools.cluster.cache import ROOT
from tools.cluster.console import wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import image_values, install

CHART = ROOT / "charts" / "model-service"
RELEASE = NAMESPACE = "guarded"
COLLECTOR = Path(__file__).parent / "collector.py"
# The Secret of the example with its two keys, and the key that replaces the first one.
SECRET, FIRST, SECOND, THIRD = "example-keys", "only-an-example-0001", "only-an-example-0002", "only-an-example-0003"
BODY = {"columns": ["mean radius", "mean texture", "mean perimeter", "mean area"], "data": [[18, 10, 123, 1001]]}
TRACE = "0af7651916cd43dd8448eb211c80319c"
AUDIENCE = "guarded"
# A client that finds the token of its service account in a file, as the kubelet mounts it.
CLIENT = f"""
import json, urllib.request
request = urllib.request.Request(
    "http://{RELEASE}-model-service/predict",
    {json.dumps(BODY).encode()!r},
    {{"Content-Type": "application/json", "Authorization": "Bearer " + open("/token/token").read()}},
)
print(len(json.load(urllib.request.urlopen(request, timeout=300))["predictions"]))
"""


@pytest.fixture(scope="module")
def release(access: Access) -> Iterator[Access]:
    """One pod of the chart's example, next to a collector."""
    access.kubectl("create", "namespace", NAMESPACE)
    try:
        access.kubectl(
            "run", "collector", f"--namespace={NAMESPACE}", f"--image={APP.reference}", "--expose", f"--port={PORT}",
            "--command", "--", "python3", "-c", COLLECTOR.read_text(),
        )  # fmt: skip
        access.kubectl("wait", "pod/collector", f"--namespace={NAMESPACE}", "--for=condition=Ready", "--timeout=300s")
        keys = access.kubectl("get", "--raw", "/openid/v1/jwks")
        access.kubectl(
            "create", "configmap", "cluster-keys", f"--namespace={NAMESPACE}", f"--from-literal=jwks.json={keys}"
        )
        issuer = json.loads(access.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
        address = f"http://collector.{NAMESPACE}.svc.cluster.local:{PORT}"
        install(
            access, RELEASE, CHART, NAMESPACE, f"--values={CHART / 'ci' / 'guarded-values.yaml'}", *image_values(APP),
            f"--set-string=monitoring.tracing.otlpEndpoint={address}", "--set=monitoring.tracing.sampleRatio=1",
            f"--set-string=api.auth.jwt.issuer={issuer}", f"--set-string=api.auth.jwt.audience={AUDIENCE}",
            "--set-string=api.auth.jwt.existingConfigMap=cluster-keys",
            '--set-json=networkPolicy.ingressFrom=[{"podSelector":{}}]',
            "--set=replicaCount=1", "--set=podDisruptionBudget.enabled=false", "--set=resources.requests.cpu=50m",
        )  # fmt: skip
        yield access
    finally:
        access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
        access.kubectl("delete", "namespace", NAMESPACE)


def _status(access: Access, key: str = "", *, trace: str = "") -> int:
    """Return the status of a prediction request with or without a key.

    Each request has its own port-forward, because kubectl ends it at the first lost connection.
    """
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    headers |= {"traceparent": f"00-{trace}-b7ad6b7169203331-01"} if trace else {}
    with access.forward(f"service/{RELEASE}-model-service", 80, NAMESPACE) as url:
        request = urllib.request.Request(f"{url}/predict", json.dumps(BODY).encode(), headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
                assert len(json.load(answer)["predictions"]) == 1
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def _lives(access: Access) -> list[tuple[str, int]]:
    """Return the UID and restart count of each pod."""
    pods = access.get_all(
        "pod", f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=model-service", NAMESPACE
    )
    return [(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods]


def test_predictions_require_a_valid_key(release: Access) -> None:
    assert _status(release) == HTTPStatus.UNAUTHORIZED
    assert _status(release, THIRD) == HTTPStatus.UNAUTHORIZED
    assert _status(release, FIRST) == HTTPStatus.OK
    assert _status(release, SECOND) == HTTPStatus.OK


def test_token_of_a_service_account_is_a_key_for_its_audience_only(access: Access, release: Access) -> None:
    ours, other = (
        access.kubectl("create", "token", "default", f"--namespace={NAMESPACE}", f"--audience={audience}").strip()
        for audience in (AUDIENCE, "other")
    )

    assert _status(release, ours) == HTTPStatus.OK
    assert _status(release, other) == HTTPStatus.UNAUTHORIZED


@pytest.mark.usefixtures("release")
def test_pod_calls_with_the_token_of_its_service_account(access: Access) -> None:
    token = {"serviceAccountToken": {"path": "token", "audience": AUDIENCE}}
    caller = {"name": "caller", "image": APP.reference, "command": ["python3", "-c", CLIENT]}
    pod = {
        "containers": [{**caller, "volumeMounts": [{"name": "token", "mountPath": "/token"}]}],
        "volumes": [{"name": "token", "projected": {"sources": [token]}}],
        "restartPolicy": "Never",
    }
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "caller", "namespace": NAMESPACE}, "spec": pod}
    access.kubectl("apply", "--filename=-", stdin=json.dumps(made))
    ended = "--for=jsonpath={.status.phase}=Succeeded"
    access.kubectl("wait", "pod/caller", f"--namespace={NAMESPACE}", ended, "--timeout=300s")

    assert access.kubectl("logs", "pod/caller", f"--namespace={NAMESPACE}").strip() == "1"


@pytest.mark.usefixtures("release")
def test_helm_test_sends_a_key(access: Access) -> None:
    printed = access.helm("test", RELEASE, "--namespace", NAMESPACE, "--timeout=300s")

    assert "Succeeded" in printed


def test_prediction_span_reaches_the_collector(access: Access, release: Access) -> None:
    assert _status(release, SECOND, trace=TRACE) == HTTPStatus.OK

    def spans() -> list[dict[str, Any]]:
        lines = access.kubectl("logs", "pod/collector", "--namespace", NAMESPACE).splitlines()
        return [span for span in map(json.loads, lines) if span["trace"] == TRACE]

    wait_for("the span", spans, timeout_seconds=300, remedy="Does the pod's log contain an error of the exporter?")
    expected = {"path": "/v1/traces", "service": "guarded-model-service", "trace": TRACE, "span": "POST /predict"}
    assert spans() == [expected]


def test_keys_rotate_without_a_restart(access: Access, release: Access) -> None:
    before = _lives(access)
    assert len(before) == 1
    changed = {"data": {"web-2026": None, "web-2028": b64encode(THIRD.encode()).decode()}}
    access.kubectl("patch", "secret", SECRET, "--namespace", NAMESPACE, "--type=merge", "--patch", json.dumps(changed))

    taken = lambda: _status(release, THIRD) == HTTPStatus.OK  # noqa: E731
    wait_for("the new key", taken, timeout_seconds=300, remedy="Does the pod's log contain `API keys read`?")

    assert _status(release, FIRST) == HTTPStatus.UNAUTHORIZED
    assert _status(release, SECOND) == HTTPStatus.OK
    assert _lives(access) == before
