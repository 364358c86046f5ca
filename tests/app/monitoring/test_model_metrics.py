"""Metrics of the model and of the requests to it."""

from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from tests.app.harness import MODEL

ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}


def model_sample(client: TestClient, name: str, **labels: str) -> float:
    version = client.get("/model").json()["version"]
    found = REGISTRY.get_sample_value(name, {"model_name": MODEL, "model_version": version, **labels})
    assert found is not None, name
    return found


def test_rows_are_counted_not_requests(client: TestClient) -> None:
    before = model_sample(client, "model_predictions_total")

    client.post("/predict", json={"instances": [ROW] * 7})

    assert model_sample(client, "model_predictions_total") == before + 7


def test_errors_are_counted_by_reason(client: TestClient) -> None:
    reasons = ("invalid_input", "too_large")
    before = [model_sample(client, "model_errors_total", reason=reason) for reason in reasons]

    client.post("/predict", json={"instances": [{}]})
    client.post("/predict", content=b"x" * 20_001)

    assert [model_sample(client, "model_errors_total", reason=reason) for reason in reasons] == [
        count + 1 for count in before
    ]


def test_every_stage_is_timed(client: TestClient) -> None:
    client.post("/predict", json={"instances": [ROW]})

    for stage in ("validate", "queue", "predict", "respond"):
        assert model_sample(client, "model_inference_duration_seconds_count", stage=stage) > 0


def test_model_info_carries_the_digest(client: TestClient) -> None:
    sha256 = client.get("/model").json()["sha256"]

    assert model_sample(client, "model_info", run_id="", sha256=sha256) == 1
