"""`manifest.json`, an artifact of each run with everything that is needed to reproduce the model."""

from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.artifacts import load_text
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.model.contract import Task
from training.data.dataset import DataSpec, SplitSpec
from training.environment import Environment
from training.errors import InputError

MANIFEST_FILE = "manifest.json"


class DataFacts(BaseModel):
    """The prepared data. `spec` is the specification to reload them."""

    model_config = ConfigDict(frozen=True)

    spec: DataSpec
    name: str
    raw_sha256: str = Field(
        description="Digest of the file, or of the output of `sha256sum` for the files of a folder."
    )
    sha256: str = Field(description="Digest of the prepared float32 matrix with its columns, categories and target.")
    file_sha256: dict[str, str] = Field(default={}, description="Digest of each file of a folder, by its path in it.")
    column_sha256: dict[str, str] = Field(
        default={},
        description="Digest of each feature and of the target, as float32 with categories. Empty for several workers.",
    )
    rows: int
    columns: tuple[str, ...]
    target: str
    task: Task
    classes: tuple[str, ...]


class SplitFacts(BaseModel):
    """The split of the rows."""

    model_config = ConfigDict(frozen=True)

    spec: SplitSpec
    rule: str
    key: tuple[str, ...] = Field(
        default=(), description="Columns whose hash decides the holdout, if the rule is hashed."
    )
    time_from: str = Field(default="", description="First time of the holdout, if the rule is timed.")
    holdout_sha256: str = Field(description="Digest of the row numbers of the holdout.")
    holdout_rows: int


class Manifest(BaseModel):
    """The record of a training: `xgboost.train(params, rows outside the holdout, rounds)`, with any `nthread`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    model_name: str
    run_id: str
    data: DataFacts
    split: SplitFacts
    params: dict[str, Any]
    rounds: int
    metric: str = Field(default="", description="Metric by which the model is judged. Empty for those of the task.")
    calibration: Literal["", "platt", "isotonic"] = Field(
        default="", description="Method that calibrates the probability. Empty: it is not calibrated."
    )
    world_size: int = Field(default=1, description="Number of workers that trained the model.")
    shard_rule: str = Field(default="", description="Rule that assigns rows to workers, which changes the model.")
    model_sha256: str
    metrics: dict[str, float]
    environment: Environment


def read(client: MlflowClient, run_id: str) -> Manifest:
    """Return the manifest of a run.

    Raises:
        InputError: The run has no manifest, or its version is not supported.
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable.
    """
    if MANIFEST_FILE not in {file.path for file in client.list_artifacts(run_id)}:
        raise InputError(f"Run {run_id} has no {MANIFEST_FILE}, and therefore no record of its training.")
    root = client.get_run(run_id).info.artifact_uri
    try:
        return Manifest.model_validate_json(load_text(f"{root}/{MANIFEST_FILE}"))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"{MANIFEST_FILE} of run {run_id} is not valid for this version ({place}).") from None
