"""`python -m training describe`: a model that was logged elsewhere gets a profile without drift for its own data."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest

from app.model.contract import CONTRACT_FILE, Contract, Profile
from app.model.files import Provenance
from app.model.xgboost import BoosterModel, load
from app.monitoring.drift import Drift
from tests.app.kinds import KINDS
from tests.app.monitoring.test_inference_log import logging_service
from tests.training.conftest import Server
from training.__main__ import main
from training.data.model_matrix import encode

# MLflow warns about its own code when a model is logged.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


def read(folder: Path) -> BoosterModel:
    found = load(folder, Provenance("m", "", folder.as_uri()))
    assert isinstance(found, BoosterModel)
    return found


@pytest.mark.parametrize("name", [name for name in KINDS if name != "1000 features"])  # takes seconds
def test_reference_data_have_no_drift_for_any_model(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, folder = KINDS[name], tmp_path / "model"
    kind.save(folder)
    kind.frame.to_parquet(tmp_path / "data.parquet")
    arguments = [f"--model-uri={folder.as_uri()}", f"--data={tmp_path}/data.parquet"]

    code = main(["describe", *arguments, f"--output={folder / CONTRACT_FILE}"])

    if read(folder).output.task == "multilabel":
        assert code == 2
        return
    assert code == 0
    model = read(folder)
    assert model.contract
    assert model.contract.profile
    drift = Drift(model.contract.profile, model.signature.columns, model.output, ("m", "1"), 1000)
    rows, _, _ = encode(pa.Table.from_pandas(kind.frame), model.signature.columns, text=False)
    drift.count(rows, model.answer(rows))
    counts = drift.counts()
    for each in drift.bins.variables:
        shares = [*each.variable.shares, each.variable.other] if each.codes else [*each.variable.shares]
        counted = counts[each.first : each.first + len(shares)]
        assert np.allclose(np.array(shares) * len(rows), counted), each.variable.name
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["features"]) == (len(rows), len(model.signature.columns))


def test_existing_contract_keeps_its_fields(tmp_path: Path) -> None:
    kind, folder = KINDS["binary"], tmp_path / "model"
    kind.save(folder)
    kind.frame.to_csv(tmp_path / "data.csv", index=False)
    before = Contract(task="binary", target="churned", classes=("stays", "leaves"), metrics={"auc": 0.9})
    (folder / CONTRACT_FILE).write_text(before.model_dump_json())

    arguments = [f"--model-uri={folder.as_uri()}", f"--data={tmp_path}/data.csv"]
    assert main(["describe", *arguments, f"--output={tmp_path / CONTRACT_FILE}"]) == 0

    after = Contract.model_validate_json((tmp_path / CONTRACT_FILE).read_bytes())
    assert after.model_copy(update={"profile": None}) == before
    assert after.profile
    assert not after.profile.predictions[0].positive
    assert after.profile.score_edges


def test_target_adds_the_calibration(tmp_path: Path) -> None:
    kind, folder = KINDS["binary"], tmp_path / "model"
    kind.save(folder)
    (folder / CONTRACT_FILE).unlink(missing_ok=True)
    frame = kind.frame.assign(y=[i % 2 for i in range(len(kind.frame))])
    frame.to_parquet(tmp_path / "data.parquet")

    arguments = [f"--model-uri={folder.as_uri()}", f"--data={tmp_path}/data.parquet", "--target=y"]
    assert main(["describe", *arguments, f"--output={tmp_path / CONTRACT_FILE}"]) == 0

    after = Contract.model_validate_json((tmp_path / CONTRACT_FILE).read_bytes())
    assert after.profile
    (score,) = after.profile.predictions
    assert np.dot(score.positive, score.shares) == pytest.approx(frame["y"].mean())
    assert (after.target, after.classes) == ("y", ("0", "1"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"y": 7}, "Row 1, column y: must be one of the model's classes, 0 and 1."),
        ({"a": "many"}, "row 1, column a: "),
        ({"output": "/nowhere/contract.json"}, "/nowhere/contract.json cannot be written"),
    ],
)
def test_unusable_input_is_named(
    change: dict[str, Any], problem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change = dict(change)
    kind, folder = KINDS["binary"], tmp_path / "model"
    kind.save(folder)
    (folder / CONTRACT_FILE).unlink(missing_ok=True)
    output = change.pop("output", str(tmp_path / CONTRACT_FILE))
    first = kind.frame.columns[0]
    frame = kind.frame.assign(y=0)
    for name, value in change.items():
        frame[{"a": first}.get(name, name)] = value
    frame.to_parquet(tmp_path / "data.parquet")

    arguments = [f"--model-uri={folder.as_uri()}", f"--data={tmp_path}/data.parquet", "--target=y"]
    assert main(["describe", *arguments, f"--output={output}"]) == 2

    assert problem.replace("column a", f"column {first}") in caplog.text


def test_profile_of_an_inference_log_is_that_of_its_rows(tmp_path: Path) -> None:
    folder, kind = tmp_path / "model", KINDS["categorical"]
    kind.save(folder)
    kind.frame.to_parquet(tmp_path / "data.parquet")
    with logging_service(folder.as_uri(), tmp_path) as client:
        assert client.post("/predict", json=kind.body()).status_code == 200
    log = f"{tmp_path}/log"
    assert main(["ship", f"--segments={tmp_path}/segments", f"--log-uri={log}", "--pod=a", "--once"]) == 0

    found: list[Profile] = []
    for source in (f"--data={tmp_path}/data.parquet", f"--from-log={log}"):
        output = tmp_path / f"{len(found)}.json"
        assert main(["describe", f"--model-uri={folder.as_uri()}", source, f"--output={output}"]) == 0
        profile = Contract.model_validate_json(output.read_text()).profile
        assert profile
        found.append(profile.model_copy(update={"created_at": None}))

    assert found[0] == found[1]


@pytest.mark.parametrize("given", [[], ["--data=x", "--from-log=y"], ["--from-log=y", "--target=z"]])
def test_description_has_one_source(given: list[str], tmp_path: Path) -> None:
    assert main(["describe", f"--model-uri={tmp_path.as_uri()}", *given]) == 2


def test_contract_of_a_model_in_mlflow_is_loaded_from_its_folder(server: Server, tmp_path: Path) -> None:
    kind = KINDS["binary"]
    kind.frame.to_parquet(tmp_path / "data.parquet")
    mlflow.set_tracking_uri(server.uri)
    folder = tmp_path / "model"
    kind.save(folder)
    (folder / CONTRACT_FILE).unlink(missing_ok=True)
    model = mlflow.initialize_logged_model(name="elsewhere")
    client = mlflow.MlflowClient()
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("elsewhere")
    client.create_model_version("elsewhere", f"models:/{model.model_id}", model_id=model.model_id)
    written = tmp_path / CONTRACT_FILE
    arguments = ["--model-uri=models:/elsewhere/1", f"--mlflow-tracking-uri={server.uri}"]
    arguments += [f"--data={tmp_path}/data.parquet", f"--output={written}"]

    assert main(["describe", *arguments]) == 0
    client.log_model_artifact(model.model_id, str(written))

    assert main(["describe", *arguments, "--rows=10"]) == 0  # it reads the new file
    assert (server.model_folder("elsewhere", "1") / CONTRACT_FILE).exists()
