"""`describe` and `score` for models of other flavors, which run in a worker with their own Python and packages."""

import json
import shutil
import sys
import venv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from starlette.testclient import TestClient

from app.model.contract import CONTRACT_FILE, Contract, Variable
from app.monitoring.bins import UNSEEN
from tests.app.model.test_pyfunc import save_code
from tests.app.workers import log_of, pyfunc_settings, serving_model
from tests.training.own_python import models
from training.__main__ import main
from training.packages.model_environment import interpreter_of

# MLflow warns about its own code when a model is logged.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
HERE = f"--model-python={sys.executable}"
# Returns what it got for each row, so that tests see the values and types of a data set's cells.
ECHO = """
import mlflow.pyfunc

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if "text" in model_input and (model_input["text"] == "fail").any():
            raise ValueError("secret")
        return [str([str(cell) for cell in row]) for row in model_input.values]

mlflow.models.set_model(Echo())
"""
TYPED = pd.DataFrame(
    {
        "double": [1.5, 2.0],
        "long": [2**53 + 1, 2],
        "flag": [True, False],
        "text": ["red", "1"],
        "when": pd.to_datetime(["2026-01-31T12:00:00", "2026-02-01T00:00:00"]),
        "raw": [b"\x00\xff", b"a"],
        "tags": [["a", "b"], ["c"]],
    }
)
SIGNATURE = ModelSignature(
    Schema(
        [
            ColSpec(DataType.double, "double"),
            ColSpec(DataType.long, "long"),
            ColSpec(DataType.boolean, "flag"),
            ColSpec(DataType.string, "text"),
            ColSpec(DataType.datetime, "when"),
            ColSpec(DataType.binary, "raw"),
            ColSpec(Array(DataType.string), "tags"),
        ]
    )
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a copy of the models of another Python, and keep their environments for this module."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(models(), folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


def describe(folder: Path, data: Path, *more: str) -> list[str]:
    return ["describe", "--model-flavor=pyfunc", f"--model-uri={folder.as_uri()}", f"--data={data}", *more]


def score(folder: Path, data: Path, output: Path, *more: str) -> list[str]:
    options = [f"--model-uri={folder.as_uri()}", f"--data={data}", f"--output={output}"]
    return ["score", "--model-flavor=pyfunc", *options, *more]


def scored(output: Path) -> pd.DataFrame:
    parts: list[pd.DataFrame] = [pq.read_table(each).to_pandas() for each in sorted(output.glob("part-*.parquet"))]
    return pd.concat(parts)


def test_model_is_described_in_its_own_python_and_its_drift_is_counted(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(own / "probabilities", tmp_path / "model")
    options = ["--classes=leaves,stays", "--target=left", f"--output={folder / CONTRACT_FILE}"]

    assert main(describe(folder, own / "train.csv", *options)) == 0

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["rows"], said["features"], said["predictions"]) == (600, 3, ["score"])
    contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
    assert (contract.task, contract.classes, contract.target) == ("binary", ("leaves", "stays"), "left")
    assert contract.profile
    rows = pd.read_csv(own / "train.csv")
    (score_profile,) = contract.profile.predictions
    assert np.dot(score_profile.positive, score_profile.shares) == pytest.approx((rows["left"] == "stays").mean())
    assert len(contract.profile.score_edges) > 5
    known = {each.name: each for each in contract.profile.features}
    assert known["plan"].categories == ("basic", "plus", "team")
    assert known["income"].missing == pytest.approx(rows["income"].isna().mean())

    body = json.loads(rows.drop(columns="left").to_json(orient="split"))
    settings = pyfunc_settings(folder.as_uri(), tmp_path, model_name="drifting", max_rows=1000)
    with serving_model(settings, interpreter_of(folder)) as client:
        answer = client.post("/predict", json={name: body[name] for name in ("columns", "data")})
        assert answer.status_code == 200, answer.text
        assert set(answer.json()["predictions"][0]["probabilities"]) == {"leaves", "stays"}
        for variable in (*contract.profile.features, score_profile):
            assert counted(client, variable) == pytest.approx([600 * share for share in variable.shares])
        strange = client.post("/predict", json={"instances": [{"age": 1000, "income": None, "plan": "new"}] * 3})
        assert strange.status_code == 200, log_of(settings)
        assert bins(client, "plan")[UNSEEN] == 3
        assert bins(client, "income")["__missing__"] == pytest.approx(600 * known["income"].missing + 3)
        assert metric(client, 'model_feature_out_of_range_total{model_name="drifting"', 'side="above"') == 3


def bins(client: TestClient, variable: str) -> dict[str, float]:
    """Return the live counts of a variable by bin."""
    found = {}
    for line in client.get("/metrics").text.splitlines():
        if line.startswith('model_distribution_values_total{bin="') and f'variable="{variable}"' in line:
            found[line.split('"')[1]] = float(line.split()[-1])
    return found


def counted(client: TestClient, variable: Variable) -> list[float]:
    live = bins(client, variable.name)
    names = variable.categories or [f"{i:02d}" for i in range(len(variable.shares))]
    return [live[str(name)] for name in names]


def metric(client: TestClient, start: str, part: str) -> float:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(start) and part in line]
    return sum(float(line.split()[-1]) for line in lines)


@pytest.mark.parametrize("name", ["probabilities", "labels", "regression"])
def test_scores_equal_the_own_answers_of_the_model(name: str, own: Path, tmp_path: Path) -> None:
    expected = json.loads((own / "answers.json").read_text())[name]

    assert main(score(own / name, own / "train.csv", tmp_path / "out", "--keep=left", "--part-rows=250")) == 0

    frame = scored(tmp_path / "out")
    assert frame["row"].tolist() == list(range(600))
    assert frame["left"].tolist() == pd.read_csv(own / "train.csv")["left"].tolist()
    names = ["prediction"] if name != "probabilities" else ["prediction_0", "prediction_1"]
    found = frame[names].to_numpy()
    np.testing.assert_array_equal(found if name == "probabilities" else found[:, 0], np.array(expected))
    assert main(score(own / name, own / "train.csv", tmp_path / "out", "--keep=left", "--part-rows=250")) == 0


def test_cells_of_csv_and_parquet_reach_the_model_as_in_a_request(tmp_path: Path) -> None:
    folder = save_code(tmp_path / "model", ECHO, signature=SIGNATURE)
    columns = [*TYPED]
    example = [1.5, 2**53 + 1, True, "red", "2026-01-31T12:00:00", "AP8=", ["a", "b"]]
    (folder / "input_example.json").write_text(json.dumps({"columns": columns, "data": [example]}))
    TYPED.to_parquet(tmp_path / "data.parquet")
    text = TYPED.assign(raw=["AP8=", "YQ=="], tags=[json.dumps(each) for each in TYPED["tags"]])
    text.to_csv(tmp_path / "data.csv", index=False)

    for data in ("data.parquet", "data.csv"):
        assert main(score(folder, tmp_path / data, tmp_path / f"{data}.out", HERE)) == 0

    expected = [str([str(cell) for cell in row]) for row in TYPED.to_numpy()]
    for data in ("data.parquet", "data.csv"):
        assert scored(tmp_path / f"{data}.out")["prediction"].tolist() == expected


def test_bad_rows_are_named_or_skipped_and_the_model_does_not_get_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "number": [1.0, 2.0, 3.0]})
    folder = save_code(tmp_path / "model", ECHO, signature=infer_signature(frame, ["x"]), input_example=frame.head(1))
    frame.assign(number=[1.0, np.inf, 3.0], text=["a", "fail", "c"]).to_parquet(tmp_path / "data.parquet")
    data = tmp_path / "data.parquet"

    assert main(score(folder, data, tmp_path / "failed", HERE)) == 2
    assert "row 1, column number: must be finite as a 64-bit number" in caplog.text
    assert main(score(folder, data, tmp_path / "out", HERE, "--on-error=skip")) == 0

    found = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert found["prediction"].to_pylist() == ["['a', '1.0']", None, "['c', '3.0']"]
    assert found["error"].to_pylist() == [None, "number: must be finite as a 64-bit number", None]

    frame.assign(text=["a", "fail", "c"]).to_parquet(data)
    assert main(score(folder, data, tmp_path / "fault", HERE)) == 2
    assert "The model cannot predict: ValueError in the model's process." in caplog.text
    assert "secret" not in caplog.text


def test_labels_without_classes_are_described_without_an_input_example(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"t{i % 12}" for i in range(240)], "raw": [b"x"] * 240})
    source = ECHO.replace("return [", "return list(model_input['text']) or [")
    folder = save_code(tmp_path / "model", source, signature=infer_signature(frame, ["x"]))
    (folder / "input_example.json").unlink(missing_ok=True)
    frame.to_parquet(tmp_path / "data.parquet")

    written = tmp_path / CONTRACT_FILE
    assert main(describe(folder, tmp_path / "data.parquet", HERE, f"--output={written}")) == 0

    contract = Contract.model_validate_json(written.read_bytes())
    assert (contract.task, contract.classes) == ("multiclass", ())
    assert contract.profile
    (feature,), (label,) = contract.profile.features, contract.profile.predictions
    for variable in (feature, label):
        assert (len(variable.categories), len(variable.others)) == (10, 2)
        assert variable.other == pytest.approx(2 / 12)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--model-python=/nowhere/python"], "/nowhere/python cannot be started"),
        (["--classes=a,b,c"], "--classes (TRAINING_CLASSES): contract.json has 3 classes, but the output has 2"),
        (["--model-flavor=xgboost"], "set --model-flavor=pyfunc"),
        (["--target=nobody"], "has no column nobody"),
    ],
)
def test_unusable_options_are_named(
    options: list[str], problem: str, own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = f"--output={tmp_path / CONTRACT_FILE}"
    with warnings.catch_warnings(action="ignore"):
        assert main(describe(own / "probabilities", own / "train.csv", output, *options)) == 2

    assert problem in caplog.text


def test_interpreter_without_the_packages_is_named(own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    venv.EnvBuilder(symlinks=True).create(tmp_path / "bare")
    python = f"--model-python={tmp_path}/bare/bin/python"

    assert main(describe(own / "labels", own / "train.csv", python)) == 2

    assert "has no package mlflow, numpy, pandas; install the model's requirements.txt there." in caplog.text


@pytest.mark.parametrize(
    ("requirement", "code", "problem"),
    [
        ("nosuchpackage-of-nobody==9", 2, "The index has no package nosuchpackage-of-nobody"),
        ("scikit-learn==99.1", 2, "The requirements cannot be met: Because there is no version of scikit-learn==99.1"),
        ("docopt==0.6.2", 2, "docopt==0.6.2 has no wheel for this Python and platform"),
    ],
)
def test_requirements_that_cannot_be_met_are_named(
    requirement: str, code: int, problem: str, own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(own / "labels", tmp_path / "model")
    (folder / "requirements.txt").write_text(f"mlflow-skinny==2.22.5\npandas<3\n{requirement}\n")

    assert main(describe(folder, own / "train.csv")) == code

    assert problem in caplog.text


def test_unreachable_index_is_exit_code_1(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(own / "labels", tmp_path / "model")
    (folder / "requirements.txt").write_text("mlflow-skinny==2.22.4\npandas<3\n")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://name:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")

    arguments: list[Any] = describe(folder, own / "train.csv")
    assert main(arguments) == 1

    assert "The package index cannot be reached (" in caplog.text
    assert "http://127.0.0.1:9/simple/" in caplog.text
    assert "secret" not in caplog.text
