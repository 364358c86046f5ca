"""Drills of changes on purpose, and of changes that are wrong: clients see nothing of them."""

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
    scale,
    wait_for_alerts,
    wait_until_complete,
)
from tools.charts import MODEL_SERVICE
from tools.cluster.access import Access
from tools.cluster.console import Failure
from tools.cluster.main_job import MODEL


@pytest.mark.long
def test_upgrade_and_rollback(access: Access) -> None:
    with drill(access, "upgrade and rollback", fault="an upgrade, then a rollback", promise=NOTHING) as counted:
        install_release(access, f"--set-string=pod.annotations.upgraded=at-{time.time():.0f}")
        access.helm("rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=5m")

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
        access.helm("rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=5m")

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
