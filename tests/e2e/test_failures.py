"""Tests of what an engineer on call sees when a dependency is missing, and of the recovery."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.e2e.outage import without
from tools.cluster.access import Access, http
from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import (
    ALIAS,
    MODEL,
    MONITORING,
    NAMESPACE,
    OBSERVABILITY,
    TRACKING_URI,
    image_values,
    install,
    release_status,
)
from tools.cluster.programs import find


@contextmanager
def unready_release(access: Access, name: str, uri: str, *extra: str) -> Iterator[str]:
    """Install a release of one pod without waiting for it, and yield the label selector of the pod."""
    access.helm(
        "upgrade", "--install", name, str(ROOT / "charts" / "model-service"), "--namespace", NAMESPACE,
        *image_values(APP), f"--set-string=model.uri={uri}", f"--set-string=mlflow.trackingUri={TRACKING_URI}",
        "--set=model.loadTimeoutSeconds=30", "--set=replicaCount=1", "--set=podDisruptionBudget.enabled=false",
        "--set=resources.requests.cpu=50m", *extra,
    )  # fmt: skip
    try:
        yield f"app.kubernetes.io/instance={name}"
    finally:
        access.helm("uninstall", name, "--namespace", NAMESPACE, "--wait")


def container(access: Access, selector: str) -> dict[str, Any]:
    """Return the status of the container, or {} while it does not exist."""
    pods = access.get_all("pod", selector, NAMESPACE)
    statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
    return statuses[0] if statuses else {}


def termination_message(access: Access, selector: str) -> str:
    """Return the termination message of the container, as `kubectl describe pod` shows it."""
    found = ""  # kept, because the status of a restart may lack it for a moment

    def exited() -> str:
        nonlocal found
        status = container(access, selector)
        ended = status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated") or {}
        found = str(ended.get("message", ""))
        return found

    wait_for("the termination message", exited, timeout_seconds=600, remedy="The container did not exit.")
    return found


def test_unknown_model_is_named_in_the_termination_message(access: Access) -> None:
    with unready_release(access, "unknown", f"models:/nobody@{ALIAS}") as selector:
        message = termination_message(access, selector)

        assert f"models:/nobody@{ALIAS}" in message
        assert TRACKING_URI in message
        assert "\n" not in message.strip()
        assert not container(access, selector)["ready"]

        def backed_off() -> bool:
            events = access.kubectl("get", "events", "--namespace", NAMESPACE, "--output", "jsonpath={..message}")
            return "restarting failed container" in events

        wait_for("the back-off event", backed_off, timeout_seconds=300, remedy="")


@pytest.mark.alone
def test_service_recovers_when_mlflow_comes_back(access: Access, service: str) -> None:
    example = http(f"{service}/model")["input_example"]
    with ExitStack() as outage:
        outage.enter_context(without(access, f"{OBSERVABILITY}-mlflow", MONITORING))
        with unready_release(access, "waiting", f"models:/{MODEL}@{ALIAS}") as selector:
            message = termination_message(access, selector)
            assert f"models:/{MODEL}@{ALIAS}" in message
            assert TRACKING_URI in message
            assert http(f"{service}/predict", example)["predictions"], (
                "pods that have loaded their model do not need MLflow"
            )

            outage.close()
            # The registry is on a volume, so registered models survive the replacement of the pod.
            ready = lambda: container(access, selector).get("ready")  # noqa: E731
            wait_for("the pod that waited for MLflow", ready, timeout_seconds=300, remedy="")


def test_models_uri_without_tracking_uri_installs_nothing(access: Access) -> None:
    chart = str(ROOT / "charts" / "model-service")

    with pytest.raises(Failure, match=r"mlflow\.trackingUri"):
        access.helm("install", "refused", chart, "--namespace", NAMESPACE, "--set=model.uri=models:/a/1")

    assert access.get("deployment", "refused-model-service", NAMESPACE) is None


def test_release_of_a_killed_helm_can_be_upgraded(access: Access) -> None:
    chart = ROOT / "charts" / "model-service"
    values = [*image_values(APP), f"--set-string=mlflow.trackingUri={TRACKING_URI}", "--set=resources.requests.cpu=50m"]
    nobody = f"--set-string=model.uri=models:/nobody@{ALIAS}"
    command = [str(find("helm")), "--kubeconfig", str(access.kubeconfig), "install", "stuck", str(chart)]
    killed = subprocess.Popen([*command, "--namespace", NAMESPACE, *values, nobody, "--wait"])
    pending = lambda: release_status(access, "stuck", NAMESPACE).startswith("pending")  # noqa: E731
    wait_for("a pending release", pending, timeout_seconds=300, remedy="")
    killed.kill()
    killed.wait()

    install(access, "stuck", chart, NAMESPACE, *values, f"--set-string=model.uri=models:/{MODEL}@{ALIAS}")

    assert release_status(access, "stuck", NAMESPACE) == "deployed"
    access.helm("uninstall", "stuck", "--namespace", NAMESPACE, "--wait")


def test_failed_install_shows_the_termination_message(access: Access) -> None:
    chart = ROOT / "charts" / "model-service"
    values = [*image_values(APP), f"--set-string=mlflow.trackingUri={TRACKING_URI}", "--set=resources.requests.cpu=50m"]
    nobody = [f"--set-string=model.uri=models:/nobody@{ALIAS}", "--set=model.loadTimeoutSeconds=2"]

    with pytest.raises(Failure, match=rf"failing-model-service-\S+: .*models:/nobody@{ALIAS}"):
        install(access, "failing", chart, NAMESPACE, *values, *nobody, timeout="25s")

    access.helm("uninstall", "failing", "--namespace", NAMESPACE, "--wait")
