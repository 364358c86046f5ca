"""`manifest.json`, an artifact of each run: all that it takes to make the same model again, and to see why not."""

from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.artifacts import load_text
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.contract import Task
from training.data import DataSpec, SplitSpec
from training.errors import InputError
from training.machine import Environment

MANIFEST_FILE = "manifest.json"


class DataFacts(BaseModel):
    """The prepared data; `spec` is how to load it again."""

    model_config = ConfigDict(frozen=True)

    spec: DataSpec
    name: str
    raw_sha256: str = Field(description="Of the file's bytes; of a folder, of what `sha256sum` says of its files.")
    sha256: str = Field(description="Of the prepared float32 matrix with its columns, categories and target.")
    rows: int
    columns: tuple[str, ...]
    target: str
    task: Task
    classes: tuple[str, ...]


class SplitFacts(BaseModel):
    """Which rows were set apart."""

    model_config = ConfigDict(frozen=True)

    spec: SplitSpec
    rule: str
    holdout_sha256: str = Field(description="Of the row numbers.")
    holdout_rows: int


class Manifest(BaseModel):
    """The model is `xgboost.train(params, rows outside the holdout, rounds)`; `nthread` does not change it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    model_name: str
    run_id: str
    data: DataFacts
    split: SplitFacts
    params: dict[str, Any]
    rounds: int
    world_size: int = Field(default=1, description="Workers that trained together.")
    shard_rule: str = Field(default="", description="Which rows each worker had; it changes the model.")
    model_sha256: str
    metrics: dict[str, float]
    environment: Environment


def read(client: MlflowClient, run_id: str) -> Manifest:
    """Return the manifest of a run.

    Raises:
        InputError: there is none, or none of this version.
        mlflow.exceptions.MlflowException, OSError: MLflow does not answer.
    """
    if MANIFEST_FILE not in {file.path for file in client.list_artifacts(run_id)}:
        raise InputError(f"Run {run_id} has no {MANIFEST_FILE}, so nothing says how it was trained.")
    root = client.get_run(run_id).info.artifact_uri
    try:
        return Manifest.model_validate_json(load_text(f"{root}/{MANIFEST_FILE}"))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"{MANIFEST_FILE} of run {run_id} is none of this version ({place}).") from None
