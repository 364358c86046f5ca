"""The champion of the main job, in another MLflow."""

from pathlib import Path

import mlflow
import mlflow.artifacts
from mlflow import MlflowClient

from tools.cluster.main_job import ALIAS, MODEL


def register_champion(source: str, target: str, folder: Path) -> None:
    """Register the files of the champion under the same name and alias in a second MLflow.

    Args:
        source: URL of the MLflow of the main job.
        target: URL of the second one.
        folder: Folder for the files.
    """
    mlflow.set_tracking_uri(source)  # models:/ is resolved by the global server only
    files = mlflow.artifacts.download_artifacts(f"models:/{MODEL}@{ALIAS}", dst_path=str(folder))
    client = MlflowClient(target)
    run = client.create_run(client.create_experiment("models"))
    client.log_artifacts(run.info.run_id, files, "model")
    client.set_terminated(run.info.run_id)
    client.create_registered_model(MODEL)
    version = client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", run.info.run_id).version
    client.set_registered_model_alias(MODEL, ALIAS, version)
