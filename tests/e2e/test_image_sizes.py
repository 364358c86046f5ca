"""What our images add to their base, against a budget: what is in an image is pulled by every node."""

import json
import re

import pytest

from tests.cluster.images import APP, MLFLOW, TRAINING, Image, buildah

# MB above the base, which is Debian's Python. The floor is the libraries: XGBoost 60 and NumPy 40 of the service.
BUDGETS = [(APP, 150), (TRAINING, 900), (MLFLOW, 450)]


def megabytes(name: str) -> float:
    """Return the size of the newest image in buildah's store whose name starts so."""
    images = json.loads(buildah("images", "--json"))
    sizes = [image["size"] for image in images for known in image["names"] or () if known.startswith(name)]
    assert sizes, f"{name} is not built"
    number, unit = sizes[0].split()
    return float(number) * {"KB": 0.001, "MB": 1, "GB": 1000}[unit]


@pytest.mark.parametrize(("image", "budget"), BUDGETS, ids=lambda value: getattr(value, "name", ""))
def test_image_keeps_its_budget(image: Image, budget: int) -> None:
    added = megabytes(image.reference) - megabytes("localhost/python:")

    assert 10 < added <= budget


@pytest.mark.parametrize("image", [image for image, _ in BUDGETS], ids=lambda image: image.name)
def test_image_is_labelled_and_runs_as_nobody(image: Image) -> None:
    docker = json.loads(buildah("inspect", "--type", "image", image.reference))["Docker"]["config"]

    assert re.fullmatch(r"\d{5}:\d{5}", docker["User"])
    # A training run ends by itself; only what serves can be asked how it is.
    assert (docker.get("Healthcheck", {}).get("Test", [""])[0] == "CMD") == (image is not TRAINING)
    labels = {name.removeprefix("org.opencontainers.image.") for name in docker["Labels"]}
    assert labels >= {"title", "description", "licenses", "revision"}
