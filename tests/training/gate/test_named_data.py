"""Promotion of versions of any flavor, compared on a data set that the user names, with a real MLflow server."""

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.data.pandas_dataset import from_pandas
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app.model.contract import CONTRACT_FILE, Contract
from app.model.digest import digest_of
from app.model.files import ModelFiles
from tests.training.conftest import Result, Server
from training.gate.ledger import Ledger

NAME = "named"
# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
CONTRACT = Contract(task="binary", target="left", classes=("leaves", "stays"))
SIGNATURE = ModelSignature(
    Schema(
        [
            ColSpec(DataType.double, "age"),
            ColSpec(DataType.double, "income"),
            ColSpec(DataType.string, "plan", required=False),
        ]
    )
)
TRAINING = ("--target=left", "--drop=id", "--early-stopping-rounds=0", "--rounds=1", "--max-depth=1")


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.arange(rows) + 10_000 * seed,
            "age": random.integers(18, 80, rows) + 0.5,
            "income": random.normal(50, 10, rows).round(3),
            "plan": random.choice(["basic", "plus", "team"], rows),
        }
    )
    leaves = frame["age"] + frame["income"] + 20 * (frame["plan"] == "basic") + random.normal(0, 8, rows) > 106
    return frame.assign(left=np.where(leaves, "leaves", "stays"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "churn.csv"
    table(1500).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def tree(server: Server, data: Path, trained: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Train a poor XGBoost model, whose held-out rows are those that a hash selects."""
    return trained(server, NAME, f"--data={data}", *TRAINING, "--holdout-key=id")


@pytest.fixture(scope="module")
def pipeline(server: Server, tree: dict[str, Any]) -> str:
    """Log a good pipeline that predicts probabilities, and return its version."""
    del tree  # the first version
    return logged(server, "predict_proba", CONTRACT)


@pytest.fixture(scope="module")
def labels(server: Server, pipeline: str) -> str:
    """Log the same pipeline so that it predicts labels, without a contract."""
    del pipeline
    return logged(server, "predict", None)


def logged(
    server: Server, function: str, contract: Contract | None, recorded: Path | None = None, seed: int = 1
) -> str:
    rows = table(1500, seed=seed)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["plan"]), (SimpleImputer(), ["age", "income"])
    )
    inputs = rows[["age", "income", "plan"]]
    model = make_pipeline(columns, LogisticRegression(max_iter=2000)).fit(inputs, rows["left"])
    mlflow.set_tracking_uri(server.uri)
    mlflow.set_experiment("elsewhere")
    with warnings.catch_warnings(action="ignore"), mlflow.start_run():
        if recorded:
            mlflow.log_input(from_pandas(rows, source=str(recorded)), context="training")
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=SIGNATURE,
            input_example=inputs.head(2),
            pyfunc_predict_fn=function,
            serialization_format="cloudpickle",
            pip_requirements=["mlflow==3.17.2", "scikit-learn"],
        )
        if contract:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, CONTRACT_FILE).write_text(contract.model_dump_json())
                server.client.log_model_artifacts(info.model_id, folder)
        return str(mlflow.register_model(f"models:/{info.model_id}", NAME).version)


@pytest.fixture
def promote(server: Server, data: Path, command: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """Return a function that promotes a verified version."""

    def promote(version: str, alias: str, *more: str, source: Path = data) -> Result:
        folder = server.model_folder(NAME, version)
        files = ModelFiles(folder, to_load=False)
        sha256 = digest_of(files.digests() if files.model_file else files.all_digests())
        result = {"passed": True, "model": {"sha256": sha256}, "service": {"version": "0.1.0"}, "checks": []}
        (tmp_path / "verified.json").write_text(pd.Series(result).to_json())
        options = [f"--mlflow-tracking-uri={server.uri}", f"--verification={tmp_path}/verified.json", "--resamples=200"]
        options += [f"--alias={alias}", f"--data={source}", "--target=left"]
        options += ["--model-flavor=pyfunc", f"--model-python={sys.executable}", f"--champion-python={sys.executable}"]
        return command("promote", f"models:/{NAME}/{version}", *options, *more)

    return promote


def tags(server: Server, version: str) -> dict[str, str]:
    known = server.client.get_model_version(NAME, version).tags
    return {key.removeprefix("gate."): value for key, value in known.items() if key.startswith("gate.")}


def test_pipeline_replaces_a_worse_tree_on_rows_that_the_tree_has_not_seen(
    server: Server, data: Path, tree: dict[str, Any], pipeline: str, promote: Callable[..., Result]
) -> None:
    first = promote(tree["version"], "champion")
    assert (first.code, first.published["outcome"]) == (0, "promoted"), first.messages

    dry = promote(pipeline, "champion", "--dry-run")
    assert (dry.code, dry.published["outcome"]) == (0, "would be promoted"), dry.messages
    assert not tags(server, pipeline)

    second = promote(pipeline, "champion")

    assert (second.code, second.published["outcome"]) == (0, "promoted"), second.messages
    checks = {each["name"]: each["detail"] for each in second.published["checks"]}
    held_out = checks["holdout"].partition(" ")[0]
    assert 200 < int(held_out) < 400
    assert "has not seen the rows that the hash of id holds out" in checks["holdout"]
    unknown = f"it is unknown whether version {pipeline} was trained on some of the rows"
    assert unknown in checks["holdout"]
    assert f"on {held_out} rows, version {tree['version']} has 0." in checks["better"]
    found = tags(server, pipeline)
    assert found.items() >= {
        "decision": "promoted", "metric": "auc", "compared_with": tree["version"], "data": str(data),
    }.items()  # fmt: skip
    assert unknown in found["seen"]
    assert len(found["data_sha256"]) == 64
    assert float(found["gain_low"]) > 0
    ledger = Ledger.find(server.client, NAME, "champion")
    assert ledger
    assert [each.version for each in ledger.entries()] == [tree["version"], pipeline]

    back = promote(tree["version"], "champion")
    assert (back.code, back.published["outcome"]) == (3, "refused")
    assert "more than +0 is required" in back.messages[-1]
    same = promote(pipeline, "champion")
    assert (same.code, same.published["outcome"]) == (0, "unchanged")


def test_labels_are_measured_by_metrics_of_labels_only(
    server: Server, labels: str, promote: Callable[..., Result]
) -> None:
    refused = promote(labels, "labelled", "--metric=auc")
    assert refused.code == 3
    assert "it predicts labels without named probabilities, which auc needs" in refused.messages[-1]
    unnamed = promote(labels, "labelled")
    assert unnamed.code == 2
    assert "--metric (TRAINING_METRIC): name the metric of the comparison" in unnamed.messages[-1]

    limited = promote(labels, "labelled", "--metric=accuracy", '--limits={"accuracy": 0.999}')
    assert limited.code == 3
    assert "at least 0.999 is required" in limited.messages[-1]
    found = promote(labels, "labelled", "--metric=accuracy", '--limits={"accuracy": 0.7}')
    assert (found.code, found.published["outcome"]) == (0, "promoted"), found.messages
    assert server.client.get_registered_model(NAME).aliases["labelled"] == labels


def test_interface_of_another_flavor_is_compared(
    tree: dict[str, Any], labels: str, promote: Callable[..., Result]
) -> None:
    assert promote(tree["version"], "called").code == 0

    found = promote(labels, "called", "--metric=accuracy", "--margin=-1")

    assert found.code == 3
    assert "its task is multiclass, the champion's is binary" in found.messages[-1]


def test_rows_of_the_training_are_never_judged(
    server: Server,
    data: Path,
    trained: Callable[..., dict[str, Any]],
    pipeline: str,
    promote: Callable[..., Result],
    tmp_path: Path,
) -> None:
    drawn = trained(server, NAME, f"--data={data}", *TRAINING)["version"]
    first = promote(drawn, "drawn")
    assert (first.code, first.published["outcome"]) == (0, "promoted"), first.messages
    (holdout,) = [each["detail"] for each in first.published["checks"] if each["name"] == "holdout"]
    assert holdout.startswith("300 rows")  # a fifth of the file
    assert "has not seen the rows that its training held out of the same file" in holdout

    fresh = tmp_path / "fresh.csv"
    table(400, seed=2).to_csv(fresh, index=False)
    found = promote(pipeline, "drawn", source=fresh)
    assert (found.code, found.published["outcome"]) == (0, "promoted"), found.messages
    (holdout,) = [each["detail"] for each in found.published["checks"] if each["name"] == "holdout"]
    assert holdout.startswith("400 rows")
    assert f"version {drawn} was trained on different data, {data}; rows that are in both are unknown" in holdout

    before = data.read_text()
    try:
        data.write_text(before + "99999,30.5,40.0,basic,stays\n")
        grown = promote(drawn, "grown")
    finally:
        data.write_text(before)
    assert grown.code == 3
    assert f"was trained on rows of {data}, which has changed since then" in grown.messages[-1]


def test_recorded_training_data_are_refused_and_a_rollback_returns_to_another_flavor(
    server: Server,
    data: Path,
    pipeline: str,
    promote: Callable[..., Result],
    command: Callable[..., Result],
    tmp_path: Path,
) -> None:
    version = logged(server, "predict_proba", CONTRACT, recorded=data, seed=3)

    found = promote(version, "recorded")

    assert found.code == 3
    assert f"version {version} was trained on {data}, by the record of its run" in found.messages[-1]

    fresh = tmp_path / "fresh.csv"
    table(400, seed=2).to_csv(fresh, index=False)
    for each in (pipeline, version):
        promoted = promote(each, "recorded", "--margin=-1", source=fresh)
        assert (promoted.code, promoted.published["outcome"]) == (0, "promoted"), promoted.messages
    back = command("rollback", f"--mlflow-tracking-uri={server.uri}", f"--model-name={NAME}", "--alias=recorded")
    assert back.code == 0, back.messages
    assert server.client.get_registered_model(NAME).aliases["recorded"] == pipeline


@pytest.mark.parametrize(
    ("options", "code", "problem"),
    [
        (["--model-flavor=xgboost"], 3, "set --model-flavor=pyfunc"),
        (["--target=nobody"], 2, "has no column nobody"),
        (["--target=id"], 2, "is not one of the model's classes, leaves, stays"),
        (["--metric=rmse"], 2, "rmse is not a metric of a binary model"),
        (["--target="], 2, "--data and --target belong together"),
        (["--max-group-loss=0.1"], 2, "--max-group-loss needs the groups of a training"),
    ],
)
def test_unusable_options_are_named(
    options: list[str], code: int, problem: str, pipeline: str, promote: Callable[..., Result]
) -> None:
    found = promote(pipeline, "options", *options)

    assert found.code == code
    assert problem in found.messages[-1]
