"""Tests of the deploy step of a release, from the registry of the cluster: two good versions, then broken ones."""

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.e2e.traffic import under_load
from tools.cluster.access import Access, http
from tools.cluster.console import Failure
from tools.cluster.images import APP, buildah
from tools.cluster.main_job import ALIAS, MODEL, MONITORING, OBSERVABILITY
from tools.cluster.registry import address
from tools.release.deploy import deploy
from tools.release.oci import Registry
from tools.release.publish import build_images, push_charts

pytestmark = pytest.mark.long

NAMESPACE = "delivery"
VALUES = {
    "model": {"uri": f"models:/{MODEL}@{ALIAS}"},
    "mlflow": {"trackingUri": f"http://{OBSERVABILITY}-mlflow.{MONITORING}.svc.cluster.local:5000"},
    "replicaCount": 1,
    "podDisruptionBudget": {"enabled": False},
    "resources": {"requests": {"cpu": "50m"}},
}


@dataclass
class Environment:
    """Registry with the images and charts of a release, and the variables of its target."""

    registry: Registry
    images: list[str]
    charts: list[str]
    variables: dict[str, str] = field(default_factory=dict)

    def deploy(self, images: list[str], timeout: str = "90s") -> None:
        """Run the deploy step."""
        deploy(self.registry, images, self.charts, {**self.variables, "DEPLOY_TIMEOUT": timeout})

    def push_changed(self, *changes: str) -> str:
        """Push the service image with a changed configuration as a new version, and return its reference."""
        container = buildah("from", "--pull-never", APP.local).strip()
        try:
            buildah("config", *changes, container)
            buildah("commit", "--quiet", "--format", "docker", container, "localhost/model-service-drill:1")
            with tempfile.TemporaryDirectory() as work:
                name, file = f"{self.registry.prefix}/model-service", Path(work) / "digest"
                options = ["--quiet", "--tls-verify=false", "--digestfile", str(file)]
                buildah("push", *options, "localhost/model-service-drill:1", f"docker://{name}:changed")
                return f"{name}@{file.read_text().strip()}"
        finally:
            buildah("rm", container)


@pytest.fixture(scope="module")
def environment(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "values.yaml").write_text(yaml.safe_dump(VALUES))
    variables = {
        "KUBECONFIG": os.environ["KUBECONFIG"],
        "DEPLOY_VALUES": str(folder / "values.yaml"),
        "DEPLOY_RELEASE": "drill",
        "DEPLOY_NAMESPACE": NAMESPACE,
    }
    access.kubectl("create", "namespace", NAMESPACE)
    try:
        registry = Registry(f"{address()}/drill")
        built = build_images(registry, "0.1.0", "", folder=folder)
        charts = push_charts(registry, "0.1.0", "", list(built.values()), folder=folder)
        images = [built[APP.name]]
        yield Environment(registry, images, charts, variables)
    finally:
        access.kubectl("delete", "namespace", NAMESPACE)


def running_images(access: Access) -> set[str]:
    """Return the images of the Deployment."""
    found = access.get("deployment", "drill-model-service", NAMESPACE)
    return {container["image"] for container in found["spec"]["template"]["spec"]["containers"]}


def test_upgrade_drops_no_request(access: Access, environment: Environment) -> None:
    environment.deploy(environment.images)
    second = environment.push_changed("--env", "DRILL=second")

    [first] = environment.images
    with under_load(access, namespace=NAMESPACE, host="drill-model-service", image=first) as counted:
        environment.deploy([second])

    print(counted)
    assert running_images(access) == {second}
    assert counted.failures == counted.refused == 0, counted


def test_release_with_a_failing_helm_test_is_rolled_back(access: Access, environment: Environment) -> None:
    environment.deploy(environment.images)
    # The pods load the model and become ready, but the `helm test` pod uses a proxy that does not exist.
    untestable = environment.push_changed("--env", "http_proxy=http://127.0.0.1:1", "--env", "no_proxy=.cluster.local")

    with pytest.raises(Failure, match="The release was rolled back: the old version serves"):
        environment.deploy([untestable])

    assert running_images(access) == set(environment.images)


def test_broken_image_is_rolled_back_without_downtime(access: Access, environment: Environment) -> None:
    environment.deploy(environment.images)  # installs, waits, and `helm test` predicts
    assert running_images(access) == set(environment.images)

    broken, stop, answered = environment.images[0].partition("@")[0] + "@sha256:" + "0" * 64, threading.Event(), []
    with access.forward("service/drill-model-service", 80, NAMESPACE) as url:
        example = http(f"{url}/model")["input_example"]

        def predict() -> None:
            while not stop.wait(0.1):
                answered.append(bool(http(f"{url}/predict", example)["predictions"]))

        caller = threading.Thread(target=predict)
        caller.start()
        try:
            with pytest.raises(Failure, match="The release was rolled back: the old version serves"):
                environment.deploy([broken], "20s")
            assert caller.is_alive(), "a prediction failed during the rollback"
        finally:
            stop.set()
            caller.join()

    assert len(answered) > 50
    assert running_images(access) == set(environment.images)
