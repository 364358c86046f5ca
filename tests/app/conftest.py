"""A real booster in MLflow's folder format, a real MLflow server, and the service around it."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from starlette.testclient import TestClient

from app.model.booster import Matrix
from app.model.contract import CONTRACT_FILE, MODEL_FILE
from tests.app.harness import COLUMNS, MODEL, process, serving, settings_for, write_contract
from tests.app.kinds import KINDS
from tools.loopback import answers, free_port, until


@pytest.fixture(scope="session")
def rows() -> Matrix:
    """Inputs, shape (60, 3), with integers in the last column."""
    drawn = np.random.default_rng(0).random((60, len(COLUMNS)), dtype=np.float32)
    drawn[:, 2] = np.floor(drawn[:, 2] * 10)
    return drawn


@pytest.fixture(scope="session")
def booster(rows: Matrix) -> xgb.Booster:
    label = (rows[:, 1] > 0.5).astype(np.float32)
    matrix = xgb.DMatrix(rows, label=label, feature_names=COLUMNS, feature_types=["float", "float", "int"])
    return xgb.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, matrix, 5)


@pytest.fixture(scope="session")
def logged(rows: Matrix) -> dict[str, Any]:
    """Arguments of MLflow's log_model, without the booster."""
    with warnings.catch_warnings(action="ignore"):
        import pandas as pd
        from mlflow.models import infer_signature

        frame = pd.DataFrame(rows, columns=COLUMNS).astype({"count": "int64"})
        signature = infer_signature(frame, np.zeros(len(rows), dtype=np.float32))
    requirements = ["xgboost-cpu"]
    return {"signature": signature, "input_example": frame.head(2), "pip_requirements": requirements}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory, booster: xgb.Booster, logged: dict[str, Any]) -> Path:
    """Model folder written by MLflow, with a contract. Tests must not change it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    with warnings.catch_warnings(action="ignore"):
        import mlflow.xgboost

        mlflow.xgboost.save_model(booster, str(folder), model_format="ubj", **logged)
    write_contract(folder)
    return folder


@pytest.fixture(scope="session")
def client(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Client of a service with the saved model and limits of 200 rows and 20,000 bytes."""
    limits = {"max_rows": 200, "max_body_bytes": 20_000}
    with serving(settings_for(saved.as_uri(), tmp_path_factory.mktemp("client"), model_name=MODEL, **limits)) as it:
        yield it


@pytest.fixture(scope="session")
def mlflow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an MLflow server and yield its address, without waiting until it is ready."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    arguments = [
        *("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with process(arguments, folder / "log", **quiet):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def mlflow_server(mlflow_process: str) -> str:
    """Address of an MLflow server that is ready."""
    until(lambda: answers(f"{mlflow_process}/health"))  # takes 6 s, or a minute on a busy machine
    return mlflow_process


@pytest.fixture(scope="session")
def registered(mlflow_server: str, booster: xgb.Booster, logged: dict[str, Any]) -> str:
    """ID of the run of a model that is registered as version 1 and @champion."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow
        import mlflow.xgboost

        mlflow.set_tracking_uri(mlflow_server)
        with mlflow.start_run(tags={"mlflow.source.git.commit": "0123abc", "env.python": "3.13.0"}) as run:
            mlflow.log_param("max_depth", 3)
            mlflow.log_metric("auc", 0.9)
            mlflow.xgboost.log_model(booster, name="model", registered_model_name=MODEL, **logged)
        client = mlflow.MlflowClient()
        client.set_registered_model_alias(MODEL, "champion", "1")
        client.set_model_version_tag(MODEL, "1", "data_digest", "d1ge57")
        mlflow.set_tracking_uri("")
    return str(run.info.run_id)


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """Copy of the saved model that tests may damage."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("MLmodel", MODEL_FILE, "input_example.json", CONTRACT_FILE):
        (folder / name).write_bytes((saved / name).read_bytes())
    return folder


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def served(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Yield a client of the service and the logged model."""
    place = tmp_path_factory.mktemp("kind")
    model = KINDS[kind].save(place / "model")
    with serving(settings_for((place / "model").as_uri(), place, max_body_bytes=4_000_000)) as client:
        yield client, model
