"""Tests of the images' size budgets and metadata. Every node pulls every megabyte."""

import json
import re

import pytest

from tools.cluster.images import APP, MLFLOW, TRAINING, Image, buildah

# MB above the base image, Debian with Python. Libraries alone take XGBoost 60, NumPy 40, gRPC 19, obstore 15 and
# cryptography 15 in the service image.
BUDGETS = [(APP, 200), (TRAINING, 900), (MLFLOW, 450)]


def megabytes(name: str) -> float:
    """Return the size of the newest image in buildah's store whose name has this prefix."""
    images = json.loads(buildah("images", "--json"))
    sizes = [image["size"] for image in images for known in image["names"] or () if known.startswith(name)]
    assert sizes, f"{name} is not built"
    number, unit = sizes[0].split()
    return float(number) * {"KB": 0.001, "MB": 1, "GB": 1000}[unit]


@pytest.mark.parametrize(("image", "budget"), BUDGETS, ids=lambda value: getattr(value, "name", ""))
def test_image_stays_within_its_budget(image: Image, budget: int) -> None:
    added = megabytes(image.local) - megabytes("localhost/python:")

    assert 10 < added <= budget


@pytest.mark.parametrize("image", [image for image, _ in BUDGETS], ids=lambda image: image.name)
def test_image_has_labels_and_an_unprivileged_user(image: Image) -> None:
    docker = json.loads(buildah("inspect", "--type", "image", image.local))["Docker"]["config"]

    assert re.fullmatch(r"\d{5}:\d{5}", docker["User"])
    # Only servers have a health check. A training run ends.
    assert (docker.get("Healthcheck", {}).get("Test", [""])[0] == "CMD") == (image is not TRAINING)
    labels = {name.removeprefix("org.opencontainers.image.") for name in docker["Labels"]}
    assert labels >= {"title", "description", "licenses", "revision"}
