"""The contract tests of a model, with a service that they start."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
import yaml
from mlflow.models import infer_signature

from app.model.booster import Matrix
from app.model.digest import digest_of
from app.model.files import ModelFiles
from app.tools import verify
from tests.app.harness import COLUMNS, MODEL, write_contract
from tests.app.model.test_pyfunc import save_code


@pytest.fixture
def example_output(booster: xgb.Booster, rows: Matrix) -> list[list[float]]:
    """Predictions of XGBoost's Python package for the logged example."""
    return [[number] for number in booster.inplace_predict(rows[:2]).tolist()]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = verify.main([*arguments, "--requests=50", "--max-p99-ms=2000"])
    output = capsys.readouterr().out
    return code, json.loads(output) if output else {}


def failed(result: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["detail"] for each in result["checks"] if not each["passed"]}


def test_valid_model_passes(
    copied: Path, example_output: list[list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_contract(copied, example_output=example_output)

    code, result = run(capsys, copied.as_uri())

    assert code == 0
    assert result["passed"]
    assert result["model"]["sha256"] == digest_of(ModelFiles(copied).digests())
    assert result["service"]["packages"]["xgboost"] == xgb.__version__
    assert {each["name"]: each["detail"] for each in result["checks"]}["rejection of invalid input"] == (
        "an unknown column, a list as a value, a missing column, invalid JSON"
    )
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda expected: (np.array(expected) + 0.001).tolist(), "differ from those in training by up to 0.001"),
        (lambda expected: expected[:1], "example_output of contract.json does not have the shape (2, 1)"),
    ],
)
def test_prediction_that_differs_from_training_fails(
    copied: Path, example_output: list[list[float]], capsys: pytest.CaptureFixture[str], change: Any, problem: str
) -> None:
    write_contract(copied, example_output=change(example_output))

    code, result = run(capsys, copied.as_uri())

    assert code == verify.REFUSED
    assert not result["passed"]
    assert result["model"]["sha256"] == ""
    assert problem in failed(result)["loads"]


def test_wrong_digest_fails_and_is_in_the_result_file(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate, file = tmp_path / "candidate.json", tmp_path / "result.json"
    candidate.write_text(json.dumps({"uri": copied.as_uri(), "sha256": "0" * 64}))

    code, printed = run(capsys, f"--candidate={candidate}", f"--result={file}")

    assert (code, printed) == (0, {})
    assert "is pinned" in failed(json.loads(file.read_text()))["loads"]


def test_slow_predictions_fail_only_the_latency_check(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = verify.main([copied.as_uri(), "--requests=50", "--max-p99-ms=0.001"])

    result = json.loads(capsys.readouterr().out)
    assert code == verify.REFUSED
    assert failed(result).keys() == {"latency"}
    assert failed(result)["latency"].endswith(" ms, the limit is 0.001 ms")


def test_model_without_an_example_is_checked_with_a_row_of_its_signature(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "input_example.json").unlink()

    code, result = run(capsys, copied.as_uri())

    details = {each["name"]: each["detail"] for each in result["checks"]}
    assert (code, failed(result)) == (0, {})
    assert details["predictions, metrics and OpenAPI"].startswith("1 row, sent a row built from the signature, ")
    assert details["rejection of invalid input"].startswith("an unknown column, a list as a value, a missing column")
    assert result["latency_ms"]["p50"] > 0


@pytest.mark.usefixtures("registered")
def test_registered_version_is_verified(
    mlflow_server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SERVICE_MLFLOW_TRACKING_URI", mlflow_server)

    code, result = run(capsys, f"models:/{MODEL}/1")

    assert (code, result["model"]["uri"], result["passed"]) == (0, f"models:/{MODEL}/1", True)


def test_invalid_requests_cover_each_kind_of_column() -> None:
    model = {
        "input_example": {"columns": ["colour", *COLUMNS[:1]], "data": [["red", 1.0]]},
        "signature": [
            {"name": "colour", "type": "string", "required": False, "categories": ["red"]},
            {"name": COLUMNS[0], "type": "double", "required": True},
        ],
    }

    bodies = verify._bad_bodies(model)

    assert list(bodies) == [
        *("an unknown column", "a list as a value", "an unknown category", "a missing column", "invalid JSON"),
    ]
    assert json.loads(bodies["a missing column"][1]) == {"instances": [{"colour": "red"}]}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give either the URI of the model or --candidate"),
        (["models:/churn@champion"], "an alias could move during verification"),
        (["--candidate=/nowhere"], "--candidate /nowhere cannot be read: No such file or directory"),
        (["--candidate=/dev/null"], "--candidate /dev/null is not JSON with uri and sha256"),
        (["models:/churn/1", "--requests=0"], "must be 1 or more"),
    ],
)
def test_invalid_arguments_are_reported_in_one_sentence(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        verify.main(arguments)

    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


DOUBLE = """
import mlflow.pyfunc

class Double(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["x"] * 2

mlflow.models.set_model(Double())
"""


def test_model_of_another_flavor_is_verified_with_its_own_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    folder = save_code(tmp_path / "model", DOUBLE, signature=infer_signature(frame, frame["x"]), input_example=frame)
    python = f"--python={sys.executable}"

    code, result = run(capsys, folder.as_uri(), python, "--start-seconds=600")

    assert code == 0, failed(result)
    assert result["model"]["sha256"] == digest_of(ModelFiles(folder, to_load=False).all_digests())
    (detail,) = [each["detail"] for each in result["checks"] if each["name"] == "loads"]
    assert ", pyfunc, 1 columns" in detail

    (folder / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    code, result = run(capsys, folder.as_uri(), python)
    assert code == verify.REFUSED
    assert "MLmodel has no flavor python_function" in failed(result)["loads"]


def test_interpreter_that_does_not_exist_is_named(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlmodel = yaml.safe_load((copied / "MLmodel").read_text())
    mlmodel["flavors"]["python_function"] = {"loader_module": "mlflow.xgboost"}
    (copied / "MLmodel").write_text(yaml.safe_dump(mlmodel))

    code = verify.main([copied.as_uri(), f"--python={tmp_path}/nowhere"])

    assert code == 1
    assert f"--python: {tmp_path}/nowhere cannot be started" in capsys.readouterr().err
