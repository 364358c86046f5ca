"""Drills of changes on purpose, and of changes that are wrong: clients see nothing of them."""

import json
import time
from pathlib import Path

import pytest

from tests.e2e.drills.drill import (
    NAMESPACE,
    NOTHING,
    RELEASE,
    drill,
    install_release,
    look_at,
    pods,
    scale,
    wait_for_alerts,
    wait_until_complete,
)
from tools.charts import MODEL_SERVICE
from tools.cluster.access import Access, http
from tools.cluster.console import Failure, wait_for
from tools.cluster.main_job import MODEL
from tools.cluster.stores import put_secret


@pytest.mark.long
def test_upgrade_and_rollback(access: Access) -> None:
    with drill(access, "upgrade and rollback", fault="an upgrade, then a rollback", promise=NOTHING) as counted:
        install_release(access, f"--set-string=pod.annotations.upgraded=at-{time.time():.0f}")
        access.helm("rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=10m")

    assert counted.failures == counted.refused == 0


@pytest.mark.long
def test_scaling_down(access: Access) -> None:
    scale(access, 5)
    wait_until_complete(access, 5)
    with drill(access, "scale down", fault="the number of pods goes from 5 to 2", promise=NOTHING) as counted:
        scale(access, 2)
        wait_until_complete(access)

    assert counted.failures == counted.refused == 0


@pytest.mark.long
def test_flapping_autoscaler(access: Access) -> None:
    fault = "the number of pods changes between 2 and 4, ten times in 100 s"
    with drill(access, "flapping autoscaler", fault=fault, promise=NOTHING) as counted:
        for _ in range(5):
            for replicas in (4, 2):
                scale(access, replicas)
                time.sleep(10)
        wait_until_complete(access)

    assert counted.failures == counted.refused == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "fault", "wrong"),
    [
        ("bad model version", "an upgrade to a version that does not exist", f"model.uri=models:/{MODEL}/999999"),
        ("bad image", "an upgrade to an image that does not exist", "image.tag=does-not-exist"),
        ("bad settings", "an upgrade whose pods cannot run", "logging.payload.redact[0]=no such column"),
    ],
)
def test_upgrade_that_cannot_succeed(access: Access, name: str, fault: str, wrong: str) -> None:
    alert = "ModelServicePodWithoutModel"
    with drill(access, name, fault=f"{fault}, then a rollback", promise=NOTHING, alerts=[alert]) as counted:
        with pytest.raises(Failure, match="not ready"):
            install_release(
                access, f"--set-string={wrong}", "--set-json=logging.payload.sampleRatio=0.5", timeout="40s"
            )
        wait_for_alerts(access, alert)
        assert wrong.rpartition("=")[2].rpartition("/")[2] in look_at(access, alert)
        access.helm("rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=10m")

    assert counted.failures == counted.refused == 0


@pytest.mark.long
def test_expired_key(access: Access) -> None:
    expired, valid = "an-expired-key-of-2025", "the-key-of-this-year"
    put_secret(access, NAMESPACE, "callers", {"web-2025": expired, "web-2026": valid})
    install_release(access, "--set-string=api.auth.existingSecret=callers")
    fault = "the expired one of two API keys is removed"
    promise = "no request with the other key fails"

    def refused(pod: str) -> bool:
        with access.forward(f"pod/{pod}", 8000, NAMESPACE) as url:
            try:
                http(f"{url}/model", key=expired)
            except Failure as failure:
                return "answered 401" in str(failure)
        return False

    with drill(access, "expired key", fault=fault, promise=promise, key=valid) as counted:
        assert not any(refused(pod) for pod in pods(access))
        patch = [{"op": "remove", "path": "/data/web-2025"}]
        access.kubectl(
            "patch", "secret", "callers", f"--namespace={NAMESPACE}", "--type=json", f"-p={json.dumps(patch)}"
        )
        all_refuse = lambda: all(refused(pod) for pod in pods(access))  # noqa: E731
        wait_for("pods that refuse the expired key", all_refuse, timeout_seconds=300, remedy="")

    assert counted.failures == counted.refused == 0


@pytest.mark.long
def test_invalid_values(access: Access, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("replicaCount: two\n")
    fault = "an upgrade with a values file that the schema refuses"
    with drill(access, "bad values file", fault=fault, promise="no request fails, and nothing changes") as counted:
        command = ["upgrade", RELEASE, str(MODEL_SERVICE), f"--namespace={NAMESPACE}", "--reuse-values"]
        with pytest.raises(Failure, match="replicaCount"):
            access.helm(*command, f"--values={file}")

    assert counted.failures == counted.refused == 0
