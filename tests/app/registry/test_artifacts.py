"""Models in a storage that a real MLflow server does not proxy."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xgboost as xgb

from app.model.contract import MODEL_FILE
from app.model.digest import METADATA_FILES
from tests.app.harness import MODEL, process, serving, settings_for
from tests.app.workers import pyfunc_settings, serving_model
from tools.loopback import answers, free_port, until


@pytest.fixture(scope="module")
def unproxied(tmp_path_factory: pytest.TempPathFactory, booster: xgb.Booster, logged: dict[str, Any]) -> Iterator[str]:
    """Yield the address of an MLflow server that hands out a registered model and proxies nothing."""
    folder, port = tmp_path_factory.mktemp("unproxied"), free_port()
    arguments = [
        *("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--no-serve-artifacts"),
        *("--default-artifact-root", f"file://{folder}/artifacts"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with process(arguments, folder / "log", **quiet):
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/health"))
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
            patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
            import mlflow
            import mlflow.xgboost

            mlflow.set_tracking_uri(address)
            with mlflow.start_run():
                mlflow.xgboost.log_model(booster, name="model", registered_model_name=MODEL, **logged)
            mlflow.set_tracking_uri("")
        yield address


@pytest.mark.parametrize(
    ("form", "flavor"),
    [
        (f"models:/{MODEL}/1", "xgboost"),
        ("models:/{model}", "xgboost"),
        ("runs:/{run}/model", "xgboost"),
        ("runs:/{run}/old/way", "xgboost"),
        ("models:/{model}", "pyfunc"),  # one: its worker takes 10 s to start
    ],
)
def test_model_in_unproxied_storage_is_served(
    unproxied: str, saved: Path, tmp_path: Path, form: str, flavor: str
) -> None:
    with warnings.catch_warnings(action="ignore"):
        from mlflow import MlflowClient

        client = MlflowClient(unproxied)
        version = client.get_model_version(MODEL, "1")
        if "old" in form:  # before MLflow 3, a model's folder is among the artifacts of its run
            client.log_artifacts(str(version.run_id), str(saved), "old/way")
    uri = form.format(model=str(version.source).rpartition("/")[2], run=version.run_id)
    changes = {"mlflow_tracking_uri": unproxied}
    if flavor == "xgboost":
        service = serving(settings_for(uri, tmp_path, **changes))
    else:
        service = serving_model(pyfunc_settings(uri, tmp_path, **changes))
    with service as served:
        model = served.get("/model").json()

    downloaded = {path.name for path in (tmp_path / "cache" / f"{model['name']}-{model['version']}").iterdir()}
    assert downloaded == set(model["files"])
    others = {"conda.yaml", "python_env.yaml", "requirements.txt", "serving_input_example.json"}
    assert downloaded - {*METADATA_FILES, MODEL_FILE} == (set() if flavor == "xgboost" else others)
