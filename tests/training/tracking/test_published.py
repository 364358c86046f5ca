"""A training with a key, which is not repeated."""

from collections.abc import Callable
from typing import Any

import mlflow
import pytest

from tests.training.conftest import Result, Server
from training.tracking.publish import KEY_TAG
from training.tracking.published import published

NAME = "keyed"
# MLflow 3.17 warns about its own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


def runs(server: Server) -> int:
    """Return the number of runs of the model's experiment."""
    client = mlflow.MlflowClient(server.uri)
    found = client.get_experiment_by_name(NAME)
    return len(client.search_runs([found.experiment_id])) if found else 0


def test_training_with_a_known_key_returns_its_version(server: Server, run: Callable[..., Result]) -> None:
    def trained(*options: str) -> dict[str, Any]:
        result = run(f"--mlflow-tracking-uri={server.uri}", f"--model-name={NAME}", "--rounds=2", *options)
        assert result.code == 0, result.messages
        return result.published

    first = trained("--key=a1")
    assert runs(server) == 1
    assert trained("--key=a1") == first
    assert trained("--key=a1", "--seed=1") == first, "the caller decides what the key covers"
    assert runs(server) == 1, "no run starts"

    assert trained("--key=b2")["version"] == "2"
    assert [trained()["version"] for _ in range(2)] == ["3", "4"], "without a key each training counts"
    assert runs(server) == 4


def test_incomplete_version_is_not_a_result(server: Server, run: Callable[..., Result]) -> None:
    options = [f"--mlflow-tracking-uri={server.uri}", "--model-name=halfway", "--rounds=2", "--key=a1"]
    version = run(*options).published["version"]

    server.client.delete_model_version_tag("halfway", version, KEY_TAG)

    mlflow.set_tracking_uri(server.uri)
    assert published(server.client, "halfway", "a1") is None
    assert run(*options).published["version"] == "2"
