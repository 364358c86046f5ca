"""Folders of XGBoost models: those that load, and the errors of those that do not."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
import yaml

from app.errors import InvalidInputError, LoadError
from app.model import xgboost as xgboost_model
from app.model.base import Model
from app.model.booster import Matrix
from app.model.contract import CONTRACT_FILE, MODEL_FILE
from app.model.files import Provenance
from tests.app.harness import CLASSES, COLUMNS, write_contract


def load(folder: Path, pinned: str = "") -> Model:
    return xgboost_model.load(folder, Provenance("m", "", folder.as_uri()), pinned)


def change_mlmodel(folder: Path, **changes: Any) -> None:
    path = folder / "MLmodel"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def with_trees(folder: Path, rows: Matrix, labels: Matrix, **parameters: Any) -> None:
    """Replace the booster in the folder."""
    matrix = xgb.DMatrix(rows, label=labels, feature_names=COLUMNS)
    booster = xgb.train({"max_depth": 2, "nthread": 1, **parameters}, matrix, 2)
    (folder / MODEL_FILE).write_bytes(booster.save_raw("ubj"))


def test_version_of_a_folder_is_its_digest(copied: Path, booster: xgb.Booster) -> None:
    loaded = load(copied)

    assert loaded.document()["files"][MODEL_FILE] == hashlib.sha256(booster.save_raw("ubj")).hexdigest()
    assert loaded.provenance.version == loaded.sha256[:12]


def sha256sum(folder: Path) -> str:
    """Return the digest of a model's deciding files by the documented command."""
    command = "LC_ALL=C sha256sum MLmodel contract.json input_example.json model.ubj | sha256sum"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def test_pinned_model_is_served(copied: Path) -> None:
    assert load(copied, sha256sum(copied)).sha256 == sha256sum(copied)


def test_reversed_classes_are_rejected_by_the_pinned_digest(copied: Path) -> None:
    pinned = load(copied).sha256
    write_contract(copied, classes=CLASSES[::-1])

    with pytest.raises(LoadError) as refusal:
        load(copied, pinned)

    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in copied.iterdir()}
    named = ", ".join(f"{name} {digest}" for name, digest in sorted(files.items()))
    assert str(refusal.value) == (
        f"its files have the sha256 {sha256sum(copied)}, but {pinned} is pinned ({named}); "
        "find out who changed it, or pin the digest you trust in model.sha256 (MODEL_SERVICE_MODEL_SHA256)"
    )


@pytest.mark.parametrize("name", ["MLmodel", MODEL_FILE, "input_example.json", CONTRACT_FILE])
@pytest.mark.parametrize("change", ["damaged", "removed"])
def test_pinned_digest_is_checked_before_a_file_is_parsed(copied: Path, name: str, change: str) -> None:
    pinned = load(copied).sha256
    if change == "damaged":
        (copied / name).write_bytes(b"\xff")
    else:
        (copied / name).unlink()

    with pytest.raises(LoadError, match=f"but {pinned} is pinned"):
        load(copied, pinned)


def test_pinned_digest_of_the_model_file_alone_is_accepted_with_a_warning(
    copied: Path, booster: xgb.Booster, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load(copied, hashlib.sha256(booster.save_raw("ubj")).hexdigest())

    assert loaded.sha256 == sha256sum(copied)
    assert "the pinned digest covers model.ubj alone" in caplog.text


def test_classes_without_contract_are_named_by_index(copied: Path, booster: xgb.Booster, rows: Matrix) -> None:
    (copied / CONTRACT_FILE).unlink()

    predictions = load(copied).predict(rows)

    shares = booster.inplace_predict(rows, validate_features=False)
    assert predictions == [
        {"label": str(int(yes > no)), "probabilities": {"0": no, "1": yes}}
        for no, yes in zip((1 - shares).tolist(), shares.tolist(), strict=True)
    ]


def test_regression_predicts_numbers(copied: Path, rows: Matrix) -> None:
    with_trees(copied, rows, rows[:, 0], objective="reg:squarederror")
    write_contract(copied, task="regression", classes=[])

    predictions = load(copied).predict(rows)

    assert all(isinstance(p, float) for p in predictions)


def test_multiclass_predicts_a_probability_per_class(copied: Path, rows: Matrix) -> None:
    with_trees(copied, rows, rows[:, 2] % 3, objective="multi:softprob", num_class=3)
    write_contract(copied, task="multiclass", classes=["a", "b", "c"])

    predictions = load(copied).predict(rows)

    assert len(predictions) == len(rows)
    for prediction in predictions:
        probabilities = prediction["probabilities"]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert prediction["label"] == max(probabilities, key=probabilities.__getitem__)


def test_model_without_example_still_predicts_a_row(copied: Path) -> None:
    (copied / "input_example.json").unlink()

    assert load(copied).document()["input_example"] is None


def test_missing_file_is_named(copied: Path) -> None:
    (copied / MODEL_FILE).unlink()

    with pytest.raises(LoadError, match=r"model/model\.ubj cannot be read \(No such file or directory\)"):
        load(copied)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{}",
        b"x",
        b'{"learner": {}}',
        b'{"learner": []}',
        b'{"learner',
        b'{"a": 1, "a": 1}',
        b'{"a":' * 9999,
    ],
    ids=lambda content: content[:20].decode(),
)
def test_foreign_model_file_is_rejected(copied: Path, content: bytes) -> None:
    (copied / MODEL_FILE).write_bytes(content)

    with pytest.raises(LoadError, match=r"model\.ubj is damaged or not a model file of XGBoost") as refusal:
        load(copied)

    assert not refusal.value.retryable


def test_binary_format_of_xgboost_1_is_rejected_with_its_conversion(copied: Path) -> None:
    (copied / MODEL_FILE).write_bytes(b"binf" + bytes(100))

    with pytest.raises(LoadError) as refusal:
        load(copied)

    assert str(refusal.value) == (
        "model.ubj has the binary format of XGBoost before 2.1, which XGBoost 3.1 and newer cannot read; convert it "
        "with XGBoost 1.7 to 3.0 and these two lines: model = mlflow.xgboost.load_model(URI) and "
        "mlflow.xgboost.log_model(model, 'model', model_format='ubj', "
        "signature=mlflow.models.get_model_info(URI).signature)"
    )


def test_trees_of_several_targets_of_xgboost_2_are_rejected(copied: Path, rows: Matrix) -> None:
    parameters = {"multi_strategy": "multi_output_tree", "tree_method": "hist"}
    matrix = xgb.DMatrix(rows, label=rows[:, :2], feature_names=COLUMNS)
    whole = json.loads(xgb.train({"max_depth": 2, "nthread": 1, **parameters}, matrix, 2).save_raw("json"))
    for tree in whole["learner"]["gradient_booster"]["model"]["trees"]:
        for name in ("leaf_weights", "loss_changes", "sum_hessian"):  # XGBoost 2.0 to 3.1 did not write them
            del tree[name]
    (copied / MODEL_FILE).write_text(json.dumps(whole))

    with pytest.raises(LoadError) as refusal:
        load(copied)

    assert str(refusal.value) == (
        "model.ubj has trees with several targets in the form of XGBoost before 3.2, which later ones cannot read; "
        "train it again with XGBoost 3.2 or newer, or without multi_strategy=multi_output_tree"
    )


@pytest.mark.parametrize("name", ["model.xgb", "model.json", "booster"])
@pytest.mark.parametrize("form", ["ubj", "json", "indented json"])
def test_content_determines_the_format(copied: Path, booster: xgb.Booster, rows: Matrix, name: str, form: str) -> None:
    content = bytes(booster.save_raw(form.removeprefix("indented ")))
    if form.startswith("indented"):
        content = b"\n" + json.dumps(json.loads(content), indent=1).encode()
    (copied / MODEL_FILE).unlink()
    (copied / name).write_bytes(content)
    change_mlmodel(copied, flavors={"xgboost": {"data": name}})

    loaded = load(copied)

    assert loaded.files[name] == hashlib.sha256(content).hexdigest()
    shares = booster.inplace_predict(rows, validate_features=False)
    assert [each["probabilities"]["benign"] for each in loaded.predict(rows)] == shares.tolist()


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9, 0.999])
def test_truncated_model_file_is_rejected(copied: Path, share: float) -> None:
    whole = (copied / MODEL_FILE).read_bytes()
    (copied / MODEL_FILE).write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(LoadError, match="it is truncated"):
        load(copied)


@pytest.mark.parametrize("data", ["../../etc/passwd", "/etc/passwd", "a\\b", "..", "", "sub/model.ubj", 1, None])
def test_mlmodel_cannot_choose_a_file_elsewhere(copied: Path, data: Any) -> None:
    change_mlmodel(copied, flavors={"xgboost": {"data": data}})

    with pytest.raises(LoadError, match=r"the model file in MLmodel is .* which is not a plain file name"):
        load(copied)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"flavors": {"sklearn": {}}}, "no flavor xgboost"),
        ({"signature": {"inputs": '[{"type": "tensor", "tensor-spec": {}}]'}}, r"tensor \(unnamed\) has dtype None"),
        ({"signature": {"inputs": '[{"type": "datetime", "name": "a"}]'}}, "input a has type datetime"),
        (
            {"signature": {"inputs": '[{"type": "double", "name": "a"}]'}},
            "the 3 features of the booster differ from the 1 columns",
        ),
        ({"signature": {"inputs": json.dumps([{"type": "double", "name": "a"}] * 2)}}, "the same name"),
    ],
)
def test_unsuitable_mlmodel_is_rejected(copied: Path, changes: dict[str, Any], cause: str) -> None:
    change_mlmodel(copied, **changes)

    with pytest.raises(LoadError, match=cause):
        load(copied)


def test_mlmodel_that_is_not_yaml_is_rejected(copied: Path) -> None:
    (copied / "MLmodel").write_text("{")

    with pytest.raises(LoadError, match="MLmodel is not valid YAML"):
        load(copied)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"schema_version": 3}, r"contract\.json is invalid: schema_version Input should be 1 or 2"),
        ({"classes": ["one"]}, "a binary model has 2 classes, not 1"),
        (
            {"task": "multiclass", "classes": ["a", "b", "c"]},
            "has the task multiclass, but the objective is binary:logistic",
        ),
    ],
)
def test_unsuitable_contract_is_rejected(copied: Path, changes: dict[str, Any], cause: str) -> None:
    write_contract(copied, **changes)

    with pytest.raises(LoadError, match=cause):
        load(copied)


def test_contract_with_wrong_number_of_classes_is_rejected(copied: Path, rows: Matrix) -> None:
    with_trees(copied, rows, rows[:, 2] % 4, objective="multi:softprob", num_class=4)
    write_contract(copied, task="multiclass", classes=["a", "b", "c"])

    with pytest.raises(LoadError, match="has 3 classes, but the booster has 4"):
        load(copied)


def test_invalid_input_example_fails_the_load(copied: Path) -> None:
    (copied / "input_example.json").write_text(json.dumps({"columns": COLUMNS, "data": [[1, "x", 1]]}))

    with pytest.raises(LoadError, match="row 0, column texture: must be a number, not a string"):
        load(copied)


def test_unknown_booster_is_rejected(copied: Path, booster: xgb.Booster) -> None:
    content = bytes(booster.save_raw("json")).replace(b'"name":"gbtree"', b'"name":"gbforest"')
    (copied / MODEL_FILE).write_bytes(content)

    with pytest.raises(LoadError, match="its booster is gbforest, but only gbtree, dart, gblinear are supported"):
        load(copied)


def test_prediction_of_one_row_equals_its_prediction_in_a_batch(copied: Path, rows: Matrix) -> None:
    loaded = load(copied)

    alone = [loaded.predict(np.ascontiguousarray(rows[i : i + 1]))[0] for i in range(len(rows))]

    assert alone == loaded.predict(rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_array_signature_uses_the_boosters_names(copied: Path, rows: Matrix, dtype: str) -> None:
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
def test_each_array_type_has_its_bounds(copied: Path, dtype: str, bad: Any, problem: str) -> None:
    spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, 3]}}
    change_mlmodel(copied, signature={"inputs": json.dumps([spec])})
    (copied / "input_example.json").write_text(json.dumps([[True] * 3 if dtype == "bool" else [1] * 3]))
    signature = load(copied).signature

    with pytest.raises(InvalidInputError) as refusal:
        signature.from_split(COLUMNS, [[True if dtype == "bool" else 1, bad, bad]])

    assert [(each.row, each.column, each.problem) for each in refusal.value.errors] == [
        (0, name, problem) for name in COLUMNS[1:]
    ]
