"""Tests of which version pods serve: one for each ReplicaSet, or the one that the alias names if they follow it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.outage import without
from tests.e2e.traffic import under_load
from tools.charts import MODEL_SERVICE
from tools.cluster.access import Access, http
from tools.cluster.console import wait_for
from tools.cluster.images import APP
from tools.cluster.main_job import MODEL, MONITORING, NAMESPACE, OBSERVABILITY, TRACKING_URI, image_values, install

RELEASE, ALIAS = "versions", "served"
NAME = f"{RELEASE}-model-service"
MLFLOW = f"{OBSERVABILITY}-mlflow"
API = "api/2.0/mlflow"


def install_release(access: Access, *values: str) -> None:
    given = {"model.uri": f"models:/{MODEL}@{ALIAS}", "mlflow.trackingUri": TRACKING_URI, "replicaCount": "2"}
    given |= {"resources.requests.cpu": "50m", "startupProbe.periodSeconds": "1", "readinessProbe.periodSeconds": "1"}
    chosen = [f"--set={key}={value}" for key, value in given.items()]
    install(access, RELEASE, MODEL_SERVICE, NAMESPACE, *image_values(APP), *chosen, *values)


def move_alias(mlflow: str, version: str) -> None:
    http(f"{mlflow}/{API}/registered-models/alias", {"name": MODEL, "alias": ALIAS, "version": version})


def new_version(mlflow: str, **tags: str) -> str:
    """Register the files of version 1 as a new version, and return its number."""
    first = http(f"{mlflow}/{API}/model-versions/get?name={MODEL}&version=1")["model_version"]
    known: dict[str, Any] = {key: first[key] for key in ("name", "source", "run_id", "model_id") if first.get(key)}
    if first["source"].startswith("models:/"):
        known["model_id"] = first["source"].removeprefix("models:/")
    known["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
    return str(http(f"{mlflow}/{API}/model-versions/create", known)["model_version"]["version"])


@pytest.fixture
def second(mlflow_url: str) -> str:
    """Number of a new version with the files of version 1; the alias names version 1."""
    created = new_version(mlflow_url)
    move_alias(mlflow_url, "1")
    return created


@pytest.fixture
def release(access: Access, second: str) -> Iterator[str]:
    """A release of two pods that serves version 1; the value is the other version."""
    install_release(access)
    try:
        yield second
    finally:
        access.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")


def pods(access: Access) -> list[str]:
    """Return the names of the pods that are not shutting down."""
    found = access.get_all("pod", f"app.kubernetes.io/instance={RELEASE}", NAMESPACE)
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def served(access: Access) -> list[dict[str, Any]]:
    """Return what each pod answers to GET /model, once all are ready."""
    access.kubectl("rollout", "status", f"deployment/{NAME}", f"--namespace={NAMESPACE}", "--timeout=300s")
    found = []
    for name in pods(access):
        with access.forward(f"pod/{name}", 8000, NAMESPACE) as url:
            found.append(http(f"{url}/model"))
    return found


def test_pods_serve_one_version_until_a_rollout(access: Access, mlflow_url: str, release: str) -> None:
    move_alias(mlflow_url, release)
    access.kubectl("delete", "pod", pods(access)[0], f"--namespace={NAMESPACE}")
    install_release(access, "--set=replicaCount=4")

    found = served(access)
    assert [pod["version"] for pod in found] == ["1"] * 4
    assert sorted(pod["origin"] for pod in found).count("peer") >= 3
    assert all(pod["confirmed"] for pod in found)
    assert len({pod["sha256"] for pod in found}) == 1

    access.kubectl("rollout", "restart", f"deployment/{NAME}", f"--namespace={NAMESPACE}")
    found = served(access)
    assert [pod["version"] for pod in found] == [release] * 4


@pytest.mark.alone
def test_pods_start_while_mlflow_is_down(access: Access, release: str) -> None:
    with without(access, MLFLOW, MONITORING):
        access.kubectl("delete", "pod", pods(access)[0], f"--namespace={NAMESPACE}")
        install_release(access, "--set=replicaCount=5")
        found = served(access)
        assert [(pod["version"], pod["confirmed"]) for pod in found] == [("1", True)] * 5
        assert [pod["origin"] for pod in found].count("peer") >= 4

        install_release(access, "--set-string=pod.annotations.changed=yes")  # a new ReplicaSet
        found = served(access)
        assert [(pod["version"], pod["confirmed"]) for pod in found] == [("1", False)] * 2

    wait_for(
        "the confirmation by MLflow",
        lambda: all(pod["confirmed"] for pod in served(access)),
        timeout_seconds=300,
        remedy="See the pods' logs.",
    )
    assert [pod["version"] for pod in served(access)] == ["1"] * 2
    assert release != "1"


def test_pods_follow_an_alias_and_refuse_a_broken_version(access: Access, mlflow_url: str, release: str) -> None:
    quick = {"pollSeconds": 5, "staggerSeconds": 5, "watchSeconds": 10}
    following = ["--set=model.follow.enabled=true", *(f"--set=model.follow.{key}={n}" for key, n in quick.items())]
    install_release(access, *following)
    before = {pod: containers_of(access, pod) for pod in pods(access)}

    with under_load(access, host=NAME) as load:
        move_alias(mlflow_url, release)
        wait_for(
            "the new version in all pods",
            lambda: {(pod["version"], pod["following"]["state"]) for pod in served(access)} == {(release, "settled")},
            timeout_seconds=300,
            remedy="See the pods' logs.",
        )
    assert load.failures == 0, load
    assert {pod: containers_of(access, pod) for pod in pods(access)} == before, "no pod was replaced or restarted"

    broken = new_version(mlflow_url, sha256="0" * 64)
    move_alias(mlflow_url, broken)
    wait_for(
        "the refusal in all pods",
        lambda: all(broken in {each["version"] for each in pod["following"]["refused"]} for pod in served(access)),
        timeout_seconds=300,
        remedy="See the pods' logs.",
    )
    install_release(access, *following, "--set=replicaCount=4")
    assert [pod["version"] for pod in served(access)] == [release] * 4


def containers_of(access: Access, pod: str) -> tuple[str, int]:
    """Return the unique name of a pod, and how often its container has restarted."""
    found = access.get("pod", pod, NAMESPACE)
    return found["metadata"]["uid"], found["status"]["containerStatuses"][0]["restartCount"]
