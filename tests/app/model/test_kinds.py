"""Predictions of every kind of model equal XGBoost's own, bit for bit, for single rows and batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.model.booster import Matrix
from tests.app.harness import serving, settings_for
from tests.app.kinds import KINDS, ROWS


def numbers(predictions: list[Any], classes: list[str]) -> Matrix:
    """Return the booster's numbers in the predictions, shape (rows, outputs)."""
    rows = []
    for prediction in predictions:
        if not isinstance(prediction, dict):
            rows.append(prediction if isinstance(prediction, list) else [prediction])
        elif "probabilities" not in prediction:
            rows.append([float(classes.index(prediction["label"]))])
        else:
            shares = list(prediction["probabilities"].values())
            assert list(prediction["probabilities"]) == classes
            assert prediction["label"] == classes[int(np.argmax(shares))]
            rows.append(shares)
    return np.array(rows, dtype=np.float32)


def test_predictions_equal_xgboost_bit_for_bit(kind: str, served: tuple[TestClient, Any]) -> None:
    client, model = served
    wanted = np.asarray(KINDS[kind].own(model, KINDS[kind].frame), dtype=np.float32).reshape(ROWS, -1)
    body = KINDS[kind].body()
    assert len(np.unique(wanted, axis=0)) > 1  # otherwise equality proves little

    answer = client.post("/predict", json=body)

    assert answer.status_code == 200, answer.text
    description = client.get("/model").json()
    found = numbers(answer.json()["predictions"], description["classes"])
    if found.shape[1] == 2 and wanted.shape[1] == 1:  # XGBoost predicts only the probability of the second class
        wanted = np.c_[1 - wanted, wanted]
    np.testing.assert_array_equal(found, wanted)


def test_single_row_predicts_as_in_a_batch_in_both_forms(kind: str, served: tuple[TestClient, Any]) -> None:
    client, _ = served
    body = KINDS[kind].body()
    together = client.post("/predict", json=body).json()["predictions"]

    for number in (0, 1, ROWS - 1):
        row = body["data"][number]
        split = client.post("/predict", json={"columns": body["columns"], "data": [row]}).json()
        record = client.post("/predict", json={"instances": [dict(zip(body["columns"], row, strict=True))]}).json()
        assert split["predictions"] == record["predictions"] == [together[number]]


def test_responses_match_the_openapi_schema(kind: str, served: tuple[TestClient, Any]) -> None:
    from jsonschema import Draft202012Validator

    client, _ = served
    openapi = client.get("/openapi.json").json()
    operation = openapi["paths"]["/predict"]["post"]
    answer = client.post("/predict", json=KINDS[kind].body()).json()

    validator = Draft202012Validator(openapi["components"]["schemas"]["Predictions"])
    assert list(validator.iter_errors(answer)) == []
    body = Draft202012Validator(operation["requestBody"]["content"]["application/json"]["schema"])
    assert list(body.iter_errors(KINDS[kind].body())) == []


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("colour", "green", 'must be one of the model\'s categories: "grün", "red", "sky blue"'),
        ("floor", 3, "must be one of the model's categories: 1, 2, 7"),
        ("floor", True, "must be one of the model's categories: 1, 2, 7"),
    ],
)
def test_unknown_category_is_rejected(tmp_path: Path, column: str, value: Any, problem: str) -> None:
    KINDS["categorical"].save(tmp_path / "model")
    body = KINDS["categorical"].body()
    body["data"][1][body["columns"].index(column)] = value

    with serving(settings_for((tmp_path / "model").as_uri(), tmp_path)) as client:
        answer = client.post("/predict", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"row": 1, "column": column, "problem": problem}]
