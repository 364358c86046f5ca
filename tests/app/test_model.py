"""Which folders load, and what is said about those that do not."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
import yaml

from app import model
from app.booster import Matrix
from app.contract import CONTRACT_FILE, MODEL_FILE
from app.errors import InvalidInputError, LoadError
from app.model import Model, folder_provenance
from app.source import ModelFolder
from tests.app.harness import COLUMNS, write_contract


def load(folder: Path, pinned: str = "") -> Model:
    return model.load(folder, folder_provenance(ModelFolder(folder), folder.as_uri(), "m"), pinned)


def change_mlmodel(folder: Path, **changes: Any) -> None:
    path = folder / "MLmodel"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def with_trees(folder: Path, rows: Matrix, labels: Matrix, **parameters: Any) -> None:
    """Put another booster into the folder."""
    matrix = xgb.DMatrix(rows, label=labels, feature_names=COLUMNS)
    booster = xgb.train({"max_depth": 2, "nthread": 1, **parameters}, matrix, 2)
    (folder / MODEL_FILE).write_bytes(booster.save_raw("ubj"))


def test_version_of_a_folder_is_its_digest(copied: Path, booster: xgb.Booster) -> None:
    loaded = load(copied)

    assert loaded.sha256 == hashlib.sha256(booster.save_raw("ubj")).hexdigest()
    assert loaded.provenance.version == loaded.sha256[:12]


def test_pinned_bytes_are_served(copied: Path, booster: xgb.Booster) -> None:
    digest = hashlib.sha256(booster.save_raw("ubj")).hexdigest()

    assert load(copied, digest).sha256 == digest


def test_valid_model_with_other_bytes_than_pinned_is_refused(copied: Path, booster: xgb.Booster, rows: Matrix) -> None:
    pinned = hashlib.sha256(booster.save_raw("ubj")).hexdigest()
    with_trees(copied, rows, (rows[:, 0] > 0.5).astype(np.float32), objective="binary:logistic")
    found = hashlib.sha256((copied / MODEL_FILE).read_bytes()).hexdigest()
    assert load(copied).sha256 == found

    with pytest.raises(LoadError) as refusal:
        load(copied, pinned)

    assert str(refusal.value) == (
        f"model.ubj has sha256 {found}, but {pinned} is pinned; "
        "find out who changed it, or pin the digest you trust in MODEL_SERVICE_MODEL_SHA256"
    )


def test_without_contract_classes_are_called_by_their_numbers(copied: Path, booster: xgb.Booster, rows: Matrix) -> None:
    (copied / CONTRACT_FILE).unlink()

    predictions = load(copied).predict(rows)

    shares = booster.inplace_predict(rows, validate_features=False)
    assert predictions == [
        {"label": str(int(yes > no)), "probabilities": {"0": no, "1": yes}}
        for no, yes in zip((1 - shares).tolist(), shares.tolist(), strict=True)
    ]


def test_regression_answers_numbers(copied: Path, rows: Matrix) -> None:
    with_trees(copied, rows, rows[:, 0], objective="reg:squarederror")
    write_contract(copied, task="regression", classes=[])

    predictions = load(copied).predict(rows)

    assert all(isinstance(p, float) for p in predictions)


def test_multiclass_answers_a_probability_per_class(copied: Path, rows: Matrix) -> None:
    with_trees(copied, rows, rows[:, 2] % 3, objective="multi:softprob", num_class=3)
    write_contract(copied, task="multiclass", classes=["a", "b", "c"])

    predictions = load(copied).predict(rows)

    assert len(predictions) == len(rows)
    for prediction in predictions:
        probabilities = prediction["probabilities"]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert prediction["label"] == max(probabilities, key=probabilities.__getitem__)


def test_without_example_the_model_still_proves_itself(copied: Path) -> None:
    (copied / "input_example.json").unlink()

    assert load(copied).document()["input_example"] is None


def test_missing_file_is_named(copied: Path) -> None:
    (copied / MODEL_FILE).unlink()

    with pytest.raises(LoadError, match=r"model/model\.ubj cannot be read \(No such file or directory\)"):
        load(copied)


@pytest.mark.parametrize("content", [b"", b"{", b"garbage", b"binf" + bytes(100)])
def test_foreign_model_file_is_refused(copied: Path, content: bytes) -> None:
    (copied / MODEL_FILE).write_bytes(content)

    with pytest.raises(LoadError, match=r"model\.ubj is damaged or no UBJSON"):
        load(copied)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9, 0.999])
def test_cut_model_file_is_refused(copied: Path, share: float) -> None:
    whole = (copied / MODEL_FILE).read_bytes()
    (copied / MODEL_FILE).write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(LoadError, match="it ends early"):
        load(copied)


@pytest.mark.parametrize("data", ["../../etc/passwd", "/etc/passwd", "model.pkl", None])
def test_mlmodel_chooses_no_file(copied: Path, data: str | None) -> None:
    change_mlmodel(copied, flavors={"xgboost": {"data": data}})

    with pytest.raises(LoadError, match=r"as its file instead of model\.ubj"):
        load(copied)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"flavors": {"sklearn": {}}}, "no flavor xgboost"),
        ({"signature": {"inputs": '[{"type": "tensor", "tensor-spec": {}}]'}}, r"tensor \(unnamed\) is of None"),
        ({"signature": {"inputs": '[{"type": "datetime", "name": "a"}]'}}, "input a is of type datetime"),
        ({"signature": {"inputs": '[{"type": "double", "name": "a"}]'}}, "3 features are not the signature's 1"),
        ({"signature": {"inputs": json.dumps([{"type": "double", "name": "a"}] * 2)}}, "the same name"),
    ],
)
def test_unfit_mlmodel_is_refused(copied: Path, changes: dict[str, Any], cause: str) -> None:
    change_mlmodel(copied, **changes)

    with pytest.raises(LoadError, match=cause):
        load(copied)


def test_mlmodel_that_is_no_yaml_is_refused(copied: Path) -> None:
    (copied / "MLmodel").write_text("{")

    with pytest.raises(LoadError, match="MLmodel is no YAML"):
        load(copied)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"schema_version": 2}, r"contract\.json is wrong: schema_version Input should be 1"),
        ({"classes": ["one"]}, "a binary model has 2 classes, not 1"),
        ({"task": "multiclass", "classes": ["a", "b", "c"]}, "says multiclass, but its objective is binary:logistic"),
    ],
)
def test_contract_that_does_not_fit_is_refused(copied: Path, changes: dict[str, Any], cause: str) -> None:
    write_contract(copied, **changes)

    with pytest.raises(LoadError, match=cause):
        load(copied)


def test_contract_with_other_classes_than_the_booster_is_refused(copied: Path, rows: Matrix) -> None:
    with_trees(copied, rows, rows[:, 2] % 4, objective="multi:softprob", num_class=4)
    write_contract(copied, task="multiclass", classes=["a", "b", "c"])

    with pytest.raises(LoadError, match="names 3 classes, but the booster has 4"):
        load(copied)


def test_refused_input_example_ends_the_load(copied: Path) -> None:
    (copied / "input_example.json").write_text(json.dumps({"columns": COLUMNS, "data": [[1, "x", 1]]}))

    with pytest.raises(LoadError, match="row 0, column texture: must be a number, not a string"):
        load(copied)


def test_linear_booster_is_refused(copied: Path, rows: Matrix) -> None:
    matrix = xgb.DMatrix(rows, label=rows[:, 0], feature_names=COLUMNS)
    with warnings.catch_warnings(action="ignore"):  # it goes, but its models stay
        booster = xgb.train({"booster": "gblinear", "nthread": 1}, matrix, 1)
        (copied / MODEL_FILE).write_bytes(booster.save_raw("ubj"))

    with pytest.raises(LoadError, match="its booster is gblinear, and only gbtree and dart are served"):
        load(copied)


def test_prediction_of_one_row_equals_its_prediction_in_a_batch(copied: Path, rows: Matrix) -> None:
    loaded = load(copied)

    alone = [loaded.predict(np.ascontiguousarray(rows[i : i + 1]))[0] for i in range(len(rows))]

    assert alone == loaded.predict(rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_array_signature_takes_the_boosters_names(copied: Path, rows: Matrix, dtype: str) -> None:
    spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, 3]}}
    change_mlmodel(copied, signature={"inputs": json.dumps([spec])})
    (copied / "input_example.json").write_text(json.dumps(rows[:2].tolist()))
    loaded = load(copied)

    assert loaded.signature.names == tuple(COLUMNS)
    assert loaded.example == {"columns": COLUMNS, "data": rows[:2].tolist()}
    assert np.array_equal(loaded.signature.from_split(COLUMNS, rows.tolist()), rows)


@pytest.mark.parametrize(
    ("dtype", "bad", "problem"),
    [
        ("int32", 2**31, "must be between -2147483648 and 2147483647"),
        ("int64", 0.5, "must be a whole number"),
        ("uint8", 256, "must be between 0 and 255"),
        ("uint8", -1, "must be between 0 and 255"),
        ("bool", 1, "must be true or false, not a number"),
        ("float32", 1e39, "must be finite as a 32-bit number"),
    ],
)
def test_each_type_of_an_array_has_its_bounds(copied: Path, dtype: str, bad: Any, problem: str) -> None:
    spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, 3]}}
    change_mlmodel(copied, signature={"inputs": json.dumps([spec])})
    (copied / "input_example.json").write_text(json.dumps([[True] * 3 if dtype == "bool" else [1] * 3]))
    signature = load(copied).signature

    with pytest.raises(InvalidInputError) as refusal:
        signature.from_split(COLUMNS, [[True if dtype == "bool" else 1, bad, bad]])

    assert [(each.row, each.column, each.problem) for each in refusal.value.errors] == [
        (0, name, problem) for name in COLUMNS[1:]
    ]
