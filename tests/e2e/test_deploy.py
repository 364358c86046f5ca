"""The deploy step of a release, from a registry that the kubelet pulls from: a good version, then a broken one."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import yaml

from tests.cluster.access import Access, http
from tests.cluster.console import Failure
from tests.cluster.images import APP
from tests.cluster.main_job import ALIAS, MODEL, MONITORING, OBSERVABILITY
from tests.delivery.deploy import deploy
from tests.delivery.publish import Registry, push_charts, push_images
from tests.delivery.registry import running_registry

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
    """A registry with the images and charts of a release, and the variables that name where it goes."""

    registry: Registry
    images: list[str]
    charts: list[str]
    variables: dict[str, str] = field(default_factory=dict)

    def deploy(self, images: list[str]) -> None:
        """Run the step."""
        deploy(self.registry, images, self.charts, self.variables)


@pytest.fixture
def environment(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "values.yaml").write_text(yaml.safe_dump(VALUES))
    variables = {
        "KUBECONFIG": os.environ["KUBECONFIG"],
        "DEPLOY_VALUES": str(folder / "values.yaml"),
        "DEPLOY_RELEASE": "drill",
        "DEPLOY_NAMESPACE": NAMESPACE,
        "DEPLOY_TIMEOUT": "90s",
    }
    access.kubectl("create", "namespace", NAMESPACE)
    try:
        with running_registry(folder) as (address, _):
            registry = Registry(f"{address}/drill")
            images = push_images(registry, "0.1.0", "", [APP])
            charts = push_charts(registry, "0.1.0")
            yield Environment(registry, images, charts, variables)
    finally:
        access.kubectl("delete", "namespace", NAMESPACE)


def running_images(access: Access) -> set[str]:
    """Return the images of the release's Deployment."""
    found = access.get("deployment", "drill-model-service", NAMESPACE)
    return {container["image"] for container in found["spec"]["template"]["spec"]["containers"]}


def test_broken_image_is_rolled_back_while_the_old_version_serves(access: Access, environment: Environment) -> None:
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
        environment.variables["DEPLOY_TIMEOUT"] = "20s"
        try:
            with pytest.raises(Failure, match="The release was rolled back: the old version serves"):
                environment.deploy([broken])
            assert caller.is_alive(), "a prediction failed meanwhile"
        finally:
            stop.set()
            caller.join()

    assert len(answered) > 50
    assert running_images(access) == set(environment.images)
