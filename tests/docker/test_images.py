"""Tests of the images as `docker build` makes them and `docker run` starts them: MLflow, a training and the service."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.building import in_docker, remove
from tests.docker.containers import RESTRICTED, address, inspect, running, stop
from tools.cluster import engine
from tools.cluster.access import http
from tools.cluster.images import APP, MLFLOW, PRODUCTS, TRAINING, Image

pytestmark = pytest.mark.long  # builds three images

NAME = "churn"


@dataclass(frozen=True)
class Trained:
    """A registered model: the server for other containers, and the folder of version 1."""

    tracking_uri: str
    folder: Path


@pytest.fixture(scope="module", autouse=True)
def cleaned() -> Iterator[None]:
    """Remove the images afterwards."""
    yield
    remove()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Train a model in a container and register it on an MLflow server in another."""
    data = tmp_path_factory.mktemp("mlflow")
    data.chmod(0o777)
    arguments = (
        "--host=0.0.0.0", "--port=5000", "--workers=1", "--allowed-hosts=*",
        "--backend-store-uri=sqlite:////data/mlflow.db", "--artifacts-destination=/data/artifacts",
    )  # fmt: skip
    volume = f"--volume={data}:/data"
    with running(in_docker(MLFLOW), 5000, volume, arguments=arguments) as (server, _):
        uri = f"http://{address(server)}:5000"
        command = [in_docker(TRAINING), "train", f"--mlflow-tracking-uri={uri}", f"--model-name={NAME}", "--rounds=20"]
        engine.docker("run", "--rm", *RESTRICTED, *command)
        [description] = data.glob("artifacts/**/MLmodel")
        yield Trained(uri, description.parent)


def predictions(url: str) -> list[object]:
    """Return what a service answers to the input example of its model."""
    answer: list[object] = http(f"{url}/predict", http(f"{url}/model")["input_example"])["predictions"]
    return answer


def test_service_predicts_with_a_mounted_model(trained: Trained) -> None:
    options = (f"--volume={trained.folder}:/model:ro", "--env=MODEL_SERVICE_MODEL_URI=file:///model")
    with running(in_docker(APP), 8000, *options) as (_, url):
        assert len(predictions(url)) > 0


def test_service_loads_the_model_from_mlflow_and_ends_at_sigterm(trained: Trained) -> None:
    options = (
        "--tmpfs=/var/cache/model-service:mode=1777",
        f"--env=MODEL_SERVICE_MODEL_URI=models:/{NAME}/1",
        f"--env=MODEL_SERVICE_MLFLOW_TRACKING_URI={trained.tracking_uri}",
    )
    with running(in_docker(APP), 8000, *options) as (container, url):
        first = predictions(url)
        code, seconds = stop(container)

    assert len(first) > 0
    assert code == 0
    assert seconds < 30


def test_service_without_a_model_never_becomes_healthy(trained: Trained) -> None:
    uri = f"--env=MODEL_SERVICE_MODEL_URI=models:/{NAME}/404"
    options = (uri, f"--env=MODEL_SERVICE_MLFLOW_TRACKING_URI={trained.tracking_uri}")
    command = ("run", "--detach", *RESTRICTED, "--tmpfs=/var/cache/model-service:mode=1777", *options, in_docker(APP))
    container = engine.docker(*command).strip()
    try:
        code = engine.docker("wait", container).strip()
        said = engine.docker("logs", container)
    finally:
        engine.docker("rm", "--force", container)

    assert code != "0"
    assert "404" in said


@pytest.mark.parametrize("image", PRODUCTS, ids=lambda image: image.name)
def test_image_names_its_base_and_its_commit(image: Image) -> None:
    labels = inspect(in_docker(image))["Config"]["Labels"]

    assert labels["org.opencontainers.image.base.name"]
    assert labels["org.opencontainers.image.revision"]
    assert inspect(in_docker(image))["Config"]["User"] == "10001:10001"
