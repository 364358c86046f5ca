"""The endpoint POST /predict of a service with a loaded model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from starlette.testclient import TestClient

from app import __version__
from app.main import create_app
from app.model.booster import Matrix
from tests.app.harness import CLASSES, COLUMNS, MODEL, settings_for

ROW = {"mean radius": 0.5, "texture": 0.25, "count": 3}


def own_prediction(booster: xgb.Booster, rows: Matrix) -> Any:
    types = ["float", "float", "int"]
    return booster.predict(xgb.DMatrix(rows, feature_names=COLUMNS, feature_types=types))


def as_values(rows: Matrix) -> list[list[Any]]:
    """Return the rows as clients send them, with integers in the integer column."""
    return [[float(a), float(b), int(c)] for a, b, c in rows]


@pytest.mark.parametrize("count", [1, 60, 180])  # 180 rows run in a thread
def test_split_form_predicts_as_the_booster(client: TestClient, booster: xgb.Booster, rows: Matrix, count: int) -> None:
    asked = np.tile(rows, (3, 1))[:count]

    answer = client.post("/predict", json={"columns": COLUMNS, "data": as_values(asked)}).json()

    probabilities = [p["probabilities"] for p in answer["predictions"]]
    expected = own_prediction(booster, asked)
    assert [p["benign"] for p in probabilities] == pytest.approx(expected, abs=1e-6)
    assert [p["malignant"] for p in probabilities] == pytest.approx(1 - expected, abs=1e-6)
    assert [p["label"] for p in answer["predictions"]] == [CLASSES[int(e > 0.5)] for e in expected]


def test_records_and_reordered_columns_equal_split_form(client: TestClient, rows: Matrix) -> None:
    values = as_values(rows[:5])
    split = client.post("/predict", json={"columns": COLUMNS, "data": values}).json()
    records = {"instances": [dict(zip(COLUMNS, row, strict=True)) for row in values]}
    reordered = {"columns": COLUMNS[::-1], "data": [row[::-1] for row in values]}

    assert client.post("/predict", json=records).json() == split
    assert client.post("/predict", json=reordered).json() == split


def test_null_is_a_missing_value(client: TestClient, booster: xgb.Booster) -> None:
    answer = client.post("/predict", json={"instances": [ROW | {"texture": None}]}).json()

    expected = own_prediction(booster, np.array([[0.5, np.nan, 3]], dtype=np.float32))
    assert answer["predictions"][0]["probabilities"]["benign"] == pytest.approx(expected[0], abs=1e-6)


def test_response_names_the_model(client: TestClient) -> None:
    version = client.get("/model").json()["version"]

    answer = client.post("/predict", json={"instances": [ROW]}).json()

    assert answer["model"] == {"name": MODEL, "version": version}


def test_model_endpoint_returns_provenance_and_a_valid_example(client: TestClient) -> None:
    model = client.get("/model").json()

    assert model["classes"] == CLASSES
    assert model["target"] == "diagnosis"
    assert [c["name"] for c in model["signature"]] == COLUMNS
    assert client.post("/predict", json=model["input_example"]).status_code == 200
    assert set(model) >= {"uri", "alias", "run_id", "sha256", "git_commit", "data_digest", "loaded_at", "metrics"}
    assert model["service"]["version"] == __version__
    assert model["service"]["packages"]["xgboost"] == xgb.__version__


@pytest.mark.parametrize(
    ("change", "column", "problem"),
    [
        ({"texture": "inf"}, "texture", "must be a number, not a string"),
        ({"texture": "NaN"}, "texture", "must be a number, not a string"),
        ({"texture": True}, "texture", "must be a number, not a boolean"),
        ({"texture": [1]}, "texture", "must be a number, not a list"),
        ({"texture": 10**400}, "texture", "must be finite as a 32-bit number"),
        ({"texture": 1e39}, "texture", "must be finite as a 32-bit number"),
        ({"count": 1.5}, "count", "must be a whole number"),
        ({"count": 2**63}, "count", "must fit in 64 bits"),
        ({"count": None}, "count", "must not be null: the type long has no missing values"),
        ({"colour": 1}, "colour", "is not a column of this model"),
    ],
)
def test_invalid_value_is_named_by_row_and_column(
    client: TestClient, change: dict[str, Any], column: str, problem: str
) -> None:
    answer = client.post("/predict", json={"instances": [ROW, ROW | change]})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"] == [{"row": 1, "column": column, "problem": problem}]


def test_missing_column_is_named(client: TestClient) -> None:
    record = {"mean radius": 1.0, "texture": 1.0}

    errors = client.post("/predict", json={"instances": [record]}).json()["errors"]

    assert errors == [{"row": 0, "column": "count", "problem": "is missing"}]


def test_whole_float_is_an_integer(client: TestClient) -> None:
    asked = [client.post("/predict", json={"instances": [ROW | {"count": c}]}) for c in (3, 3.0)]

    assert asked[0].json() == asked[1].json()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"columns": [*COLUMNS, "count"], "data": [[1, 1, 1, 1]]}, "appears twice"),
        ({"columns": [*COLUMNS[:2], 7], "data": [[1, 1, 1]]}, "is missing"),
        ({"columns": COLUMNS, "data": [[1, 1]]}, "has 2 values for 3 columns"),
        ({"columns": COLUMNS, "data": [{"a": 1}]}, "must be a list with a value per column, not an object"),
        ({"instances": [ROW, [1, 1, 1]]}, "must be an object with a value per column, not a list"),
        ({"instances": [[1, 1, 1], ROW]}, "must be a list with a value per column, not an object"),
    ],
)
def test_invalid_form_is_named(client: TestClient, body: Any, problem: str) -> None:
    answer = client.post("/predict", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["problem"] == problem


@pytest.mark.parametrize(
    "body", [[], {}, 1, {"instances": []}, {"instances": {}}, {"instances": [ROW], "x": 1}, {"columns": 1, "data": [1]}]
)
def test_unknown_forms_are_rejected_with_the_supported_ones(client: TestClient, body: Any) -> None:
    answer = client.post("/predict", json=body)

    assert answer.status_code == 422
    assert '{"instances": [{column: value}]}' in answer.json()["detail"]


def test_first_twenty_errors_are_listed_and_all_counted(client: TestClient) -> None:
    answer = client.post("/predict", json={"instances": [ROW | {"texture": "x"}] * 50}).json()

    assert len(answer["errors"]) == 20
    assert answer["error_count"] == 50
    assert answer["detail"] == "The input has 50 problems; the first 20 are listed."


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe{", b'{"instances": [NaN]}', b"[" * 15_000, b"1" * 5000, b'"\\ud800"']
)
def test_invalid_json_returns_400(client: TestClient, body: bytes) -> None:
    answer = client.post("/predict", content=body)

    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:model-service:not-json"


def test_large_body_returns_413_before_it_is_parsed(client: TestClient) -> None:
    answer = client.post("/predict", content=b"{}", headers={"Content-Length": "20001"})

    assert answer.status_code == 413
    assert answer.json()["detail"] == "The Content-Length is 20001 bytes; the limit is 20000."


def test_large_body_without_a_length_returns_413(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 10_000

    answer = client.post("/predict", content=chunks())

    assert "content-length" not in answer.request.headers
    assert answer.status_code == 413


def test_too_many_rows_return_413(client: TestClient) -> None:
    answer = client.post("/predict", json={"columns": COLUMNS, "data": [[1, 1, 1]] * 201})

    assert answer.status_code == 413
    assert answer.json()["detail"] == "The body has 201 rows; the limit is 200."


def test_model_failure_returns_500_without_details(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    booster = client.app.state.service.loaded.model.booster  # type: ignore[attr-defined]
    monkeypatch.setattr(booster, "predict", lambda *_, **__: 1 / 0)

    answer = client.post("/predict", json={"instances": [ROW | {"texture": 0.123456}]})

    assert answer.status_code == 500
    assert answer.json()["detail"] == "The model failed on this input; see the log of the service."
    assert "0.123456" not in caplog.text


def test_not_loaded_returns_503_with_the_reason(tmp_path: Path) -> None:
    settings = settings_for("models:/m/1", tmp_path, mlflow_tracking_uri="http://127.0.0.1:9")
    with TestClient(create_app(settings)) as client:
        answer = client.post("/predict", json={"instances": [ROW]})
        health = client.get("/health")

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert client.get("/model").status_code == 503
        assert health.status_code == 503
        assert "models:/m/1" in health.json()["reasons"][0]
        assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/predict", 405)])
def test_unknown_route_returns_a_problem(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code == status


def test_openapi_describes_all_forms(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    schema = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert [form["title"] for form in schema["oneOf"]] == ["Records", "Matrix", "Split"]
    assert document["info"] | {"description": ""} == {"title": MODEL, "description": "", "version": __version__}
    assert json.dumps(document)
