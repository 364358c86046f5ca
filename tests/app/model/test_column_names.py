"""Names of columns that are not plain strings, and signatures that MLflow writes for them or does not write at all."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from app.errors import InvalidInputError, LoadError
from app.model.booster import Matrix
from app.model.contract import MODEL_FILE
from tests.app.harness import serving, settings_for
from tests.app.model.test_xgboost import change_mlmodel, load

LEVELS = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", 1)])


def save(folder: Path, values: Matrix, columns: Any, given: str) -> xgb.Booster:
    """Log a model of a data frame, or of an array without columns."""
    with warnings.catch_warnings(action="ignore"):
        import mlflow.xgboost
        from mlflow.models import infer_signature

        rows: Any = values if columns is None else pd.DataFrame(values, columns=columns)
        booster = xgb.train({"max_depth": 2, "nthread": 1}, xgb.DMatrix(rows, label=values[:, 0] + values[:, 1]), 3)
        extra: dict[str, Any] = {"pip_requirements": ["xgboost-cpu"]}
        if given != "none":
            extra["signature"] = infer_signature(rows)
        if given == "example":
            extra["input_example"] = rows[:2]
        mlflow.xgboost.save_model(booster, str(folder), model_format="ubj", **extra)
    return booster


@pytest.mark.parametrize("given", ["none", "signature", "example"])
@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ([0, 1, 2], ["0", "1", "2"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([0.5, 1.0, 2.0], ["0.5", "1.0", "2.0"]),
        (["a", "", "c"], ["a", "", "c"]),
        (["a", 1, 2.5], ["a", "1", "2.5"]),
        (LEVELS, ["a x", "a y", "b 1"]),
        (None, ["0", "1", "2"]),
    ],
    ids=["from 0", "from 1", "real", "empty", "mixed", "levels", "array"],
)
def test_columns_are_served_under_the_names_of_xgboost(
    tmp_path: Path, rows: Matrix, columns: Any, names: list[str], given: str
) -> None:
    booster = save(tmp_path / "model", rows, columns, given)
    sent = [list(name) for name in columns] if columns is LEVELS else columns or names
    expected = booster.inplace_predict(rows, validate_features=False).tolist()

    with serving(settings_for((tmp_path / "model").as_uri(), tmp_path)) as client:
        described = client.get("/model").json()
        split = client.post("/predict", json={"columns": names, "data": rows.tolist()})
        asked = client.post("/invocations", json={"dataframe_split": {"columns": sent, "data": rows.tolist()}})
        records = client.post("/predict", json={"instances": [dict(zip(names, rows[0].tolist(), strict=True))]})

    assert [column["name"] for column in described["signature"]] == names
    assert (described["input_example"] is None) == (given != "example")
    assert split.json()["predictions"] == expected
    assert asked.json()["predictions"] == expected
    assert records.json()["predictions"] == expected[:1]


@pytest.mark.parametrize("shape", [[-1, 3], [-1, -1]])
def test_array_signature_numbers_the_features_of_an_array(tmp_path: Path, rows: Matrix, shape: list[int]) -> None:
    save(tmp_path, rows, None, "none")
    spec = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": shape}}
    change_mlmodel(tmp_path, signature={"inputs": json.dumps([spec])})

    assert load(tmp_path).signature.names == ("0", "1", "2")


def test_unnamed_columns_have_the_names_of_the_booster(copied: Path) -> None:
    change_mlmodel(copied, signature={"inputs": json.dumps([{"type": "double"}] * 3)})

    assert [(column.name, column.type) for column in load(copied).signature.columns] == [
        ("mean radius", "double"),
        ("texture", "double"),
        ("count", "double"),
    ]


@pytest.mark.parametrize(
    "inputs",
    [
        "not JSON",
        "5",
        "[5]",
        '{"type": "double"}',
        "[{}]",
        '[{"name": "a"}]',
        '[{"type": "double", "name": {}}]',
        '[{"type": "double", "name": []}]',
        '[{"type": "double", "name": [null]}]',
        '[{"type": "tensor", "tensor-spec": 5}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": 5}}]',
        '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": ["x"]}}]',
        ["a list"],
    ],
)
def test_signature_that_mlflow_does_not_write_is_rejected(copied: Path, inputs: Any) -> None:
    change_mlmodel(copied, signature={"inputs": inputs})

    with pytest.raises(LoadError, match="the signature in MLmodel is not one that MLflow writes") as refusal:
        load(copied)

    assert not refusal.value.retryable


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        ([{"type": "any"}] * 3, "input mean radius has type any"),
        ([{"type": "double", "name": "a"}, {"type": "double"}], r"input \(unnamed\) has type double"),
        ([{"type": "array", "items": {"type": "double"}, "name": "a"}], "input a has type array"),
        ([{"type": "tensor", "name": "a", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}], "type tensor"),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3, 3]}}], "input inputs has type float"),
        ([{"type": "double", "name": each} for each in (1, "1", 2)], "two inputs have the same name"),
        ([{"type": "double", "name": each} for each in (1, 2, 3)], "differ from the 3 columns of the signature"),
    ],
)
def test_signature_that_does_not_fit_a_booster_is_rejected(
    copied: Path, inputs: list[dict[str, Any]], cause: str
) -> None:
    change_mlmodel(copied, signature={"inputs": json.dumps(inputs)})

    with pytest.raises(LoadError, match=cause) as refusal:
        load(copied)

    assert not refusal.value.retryable


@pytest.mark.parametrize(
    "example", ['{"columns": 5, "data": 7}', '{"columns": [], "data": []}', '{"data": 5}', '{"a": 1}', "[5]", "null"]
)
def test_example_that_is_not_a_table_is_ignored(copied: Path, example: str) -> None:
    (copied / "input_example.json").write_text(example)

    assert load(copied).example is None


def test_row_of_an_array_model_is_checked(tmp_path: Path, rows: Matrix) -> None:
    save(tmp_path, rows, None, "none")
    signature = load(tmp_path).signature

    with pytest.raises(InvalidInputError) as refusal:
        signature.from_split([0, 1, {}], [[1, 2, 3]])

    assert [(each.column, each.problem) for each in refusal.value.errors] == [
        ("2", "is missing"),
        (None, "a column's name must be a string, a number or a list of these"),
    ]
    assert np.isnan(signature.from_split([0, 1, 2], [[1, 2, None]])[0, 2])
    assert (tmp_path / MODEL_FILE).exists()
