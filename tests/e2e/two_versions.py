"""A registered model with two versions: that of the main job, and the same model with half of its trees."""

import json
import time
from pathlib import Path

import mlflow
import xgboost as xgb

from app.model.contract import CONTRACT_FILE, MODEL_FILE
from app.model.digest import METADATA_FILES
from tests.app.following.registry import Registry
from tools.cluster.main_job import MODEL


def register_two_versions(mlflow_url: str, place: Path, prefix: str) -> tuple[Registry, tuple[Path, Path]]:
    """Register both versions under a new name, and return their registry and folders.

    Args:
        mlflow_url: URL of the MLflow server.
        place: Folder for the files of both versions.
        prefix: First part of the name of the model.
    """
    mlflow.set_tracking_uri(mlflow_url)
    folders = place / "first", place / "second"
    for folder in folders:
        for name in (*METADATA_FILES, MODEL_FILE):
            mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1/{name}", dst_path=str(folder))
    booster = xgb.Booster(model_file=str(folders[1] / MODEL_FILE))
    (folders[1] / MODEL_FILE).write_bytes(booster[: booster.num_boosted_rounds() // 2].save_raw("ubj"))
    contract = json.loads((folders[1] / CONTRACT_FILE).read_text())
    (folders[1] / CONTRACT_FILE).write_text(json.dumps(contract | {"example_output": []}))
    registry = Registry(mlflow_url, f"{prefix}-{time.time_ns()}")
    assert [registry.register(folder) for folder in folders] == ["1", "2"]
    return registry, folders
