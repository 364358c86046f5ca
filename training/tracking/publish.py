"""Publication of a finished training: upload to MLflow, registration and verification.

The logged files are downloaded and compared with the trained ones. Then one request creates the version with all of its
tags, so that a process that is killed at any moment leaves either no version or a complete one. No alias moves: only
the gate (`training.gate`) moves aliases.
"""

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from itertools import islice
from pathlib import Path
from typing import Any

import mlflow
import mlflow.xgboost
import numpy as np
import pandas as pd
import xgboost as xgb
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from app.model.contract import CONTRACT_FILE, MODEL_FILE, Contract
from app.model.digest import DIGEST_TAG, FILES_TAG, digest_of, lines_of
from app.model.files import ModelFiles
from training.errors import TrackingError, TrackingRefusal
from training.progress import bar
from training.tracking import evidence
from training.tracking.bundle import PICTURES, RECORD_FILE, Record
from training.tracking.data_report import REPORT_FILE
from training.tracking.manifest import MANIFEST_FILE
from training.tracking.mlflow_errors import mlflow_at
from training.tracking.runs import FAILURE_TAG

# Packages that MLflow needs to load the model. By default, MLflow also lists the CUDA build of XGBoost.
MODEL_REQUIREMENTS = ("xgboost-cpu", "numpy", "pandas")
KEY_TAG = "training_key"
_METRICS_PER_CALL = 1000  # limit of MLflow
_LONGEST_WAIT_SECONDS = 30.0

log = logging.getLogger("training")


@dataclass(frozen=True)
class Published:
    """A registered model version.

    Args:
        name: Registered model.
        version: Number of the version.
        uri: URI of the version.
        run_id: Run that trained it.
        sha256: Digest of the model as MLflow returns it, which covers every file that decides an answer.
        file_sha256: Digest of the model file alone, which is the same for the same training.
        metrics: Metrics of the run.
    """

    name: str
    version: str
    uri: str
    run_id: str
    sha256: str
    file_sha256: str
    metrics: dict[str, float]


def publish(folder: Path, run_id: str, where: str, *, retry_seconds: float) -> Published:
    """Log the files of the folder to a run, register the model and verify it.

    After a lost connection, the publication is retried. Existing files and versions are not created twice.

    Args:
        folder: Folder that `bundle.write` and `evidence.write` wrote.
        run_id: ID of the active run of this process.
        where: Address of the MLflow server.
        retry_seconds: How long to keep retrying after the first failure.

    Raises:
        TrackingRefusal: MLflow refuses.
        TrackingError: MLflow is unreachable or fails, or the registered file differs from the trained one.
    """
    record = Record.model_validate_json((folder / RECORD_FILE).read_bytes())
    wait, deadline = 1.0, 0.0
    while True:
        try:
            with mlflow_at(where):
                return _attempt(folder, record, run_id)
        except TrackingRefusal:
            raise
        except TrackingError as error:
            deadline = deadline or time.monotonic() + retry_seconds
            if time.monotonic() + wait > deadline:
                raise
            log.warning("%s Retrying in %.0f s, for up to %.0f s.", error, wait, deadline - time.monotonic())
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def verify(uri: str, folder: Path) -> dict[str, str]:
    """Compare the logged files with the trained ones, because MLflow does not check digests.

    Args:
        uri: The logged model, or the registered version.
        folder: Folder that `bundle.write` wrote.

    Returns:
        The digest of each file that decides an answer, as MLflow returns it.

    Raises:
        TrackingError: The files differ.
    """
    with tempfile.TemporaryDirectory() as work:
        path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=work)
        found = ModelFiles(Path(path), to_load=False).digests()
    for name in (MODEL_FILE, CONTRACT_FILE):
        trained = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found.get(name) != trained:
            raise TrackingError(
                f"{uri} contains a {name} with sha256 {found.get(name)}, but {trained} was trained and logged."
            )
    return found


def _attempt(folder: Path, record: Record, run_id: str) -> Published:
    client = mlflow.MlflowClient()
    with bar("upload", 5, "step") as progress:
        mlflow.log_params(record.params)
        mlflow.set_tags(record.tags)
        if FAILURE_TAG in client.get_run(run_id).data.tags:  # from an earlier attempt
            client.delete_tag(run_id, FAILURE_TAG)
        # MLflow accepts 36 characters, which distinguish data sets. The complete digest is a tag.
        source = json.dumps({"uri": record.source})
        origin = Dataset(record.tags["data.name"], record.tags["data.sha256"][:36], "training", source)
        client.log_inputs(run_id, [DatasetInput(origin, [InputTag("mlflow.data.context", "training")])])
        progress.advance()
        mlflow.log_metrics(record.metrics)
        for batch in _batches(record.history):
            client.log_batch(run_id, metrics=batch)
        progress.advance()
        for name in (PICTURES, evidence.FOLDER):
            client.log_artifacts(run_id, str(folder / name), name)
        for name in (REPORT_FILE, MANIFEST_FILE):
            client.log_artifact(run_id, str(folder / name))
        progress.advance()
        version = _registered(client, record, run_id)
        logged = f"models:/{record.model_name}/{version}" if version else _log(client, folder)
        progress.advance()
        files = verify(logged, folder)
        sha256 = digest_of(files)
        version = version or _register(client, record, run_id, logged, files)
        uri = f"models:/{record.model_name}/{version}"
        progress.advance()
    log.info("registered %s (sha256 %s)", uri, sha256)
    return Published(record.model_name, version, uri, run_id, sha256, files[MODEL_FILE], record.metrics)


def _batches(history: dict[str, list[float | None]]) -> Iterator[Sequence[Metric]]:
    """Yield the metrics by round in batches that MLflow accepts. A missing value leaves out its round."""
    now = int(time.time() * 1000)
    metrics = (
        Metric(name, value, now, step)
        for name, values in history.items()
        for step, value in enumerate(values, 1)
        if value is not None
    )
    while batch := list(islice(metrics, _METRICS_PER_CALL)):
        yield batch


def _registered(client: mlflow.MlflowClient, record: Record, run_id: str) -> str:
    """Return the version of an earlier attempt whose response was lost, or ""."""
    found = client.search_model_versions(f"name = '{record.model_name}' and run_id = '{run_id}'")
    return str(found[0].version) if found else ""


def _log(client: mlflow.MlflowClient, folder: Path) -> str:
    """Log the booster as UBJSON with its contract in the same folder, and return the URI of the logged model."""
    info = mlflow.xgboost.log_model(name="model", **_logged(folder))
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / CONTRACT_FILE).write_bytes((folder / CONTRACT_FILE).read_bytes())
        client.log_model_artifacts(info.model_id, work)
    return f"models:/{info.model_id}"


def _register(client: mlflow.MlflowClient, record: Record, run_id: str, logged: str, files: Mapping[str, str]) -> str:
    """Create a version of the logged model with all of its tags, and return its number."""
    try:
        client.create_registered_model(record.model_name)
    except MlflowException as error:  # a concurrent first run created it
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for key in ("task", "target"):
        client.set_registered_model_tag(record.model_name, key, record.tags[key])
    tags = record.version_tags | {DIGEST_TAG: digest_of(files), FILES_TAG: lines_of(files)}
    tags |= {KEY_TAG: record.key} if record.key else {}
    model_id = logged.removeprefix("models:/")
    made = client.create_model_version(record.model_name, source=logged, run_id=run_id, model_id=model_id, tags=tags)
    return str(made.version)


def save(folder: Path, target: Path) -> None:
    """Write the folder of the model as it would be registered, without a server.

    Args:
        folder: Folder that `bundle.write` wrote.
        target: Folder that does not exist yet.
    """
    arguments = _logged(folder)
    mlflow.xgboost.save_model(arguments.pop("xgb_model"), str(target), **arguments)
    (target / CONTRACT_FILE).write_bytes((folder / CONTRACT_FILE).read_bytes())


def _logged(folder: Path) -> dict[str, Any]:
    """Return the arguments for MLflow's functions that store a model."""
    contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
    record = Record.model_validate_json((folder / RECORD_FILE).read_bytes())
    return {
        "xgb_model": xgb.Booster(model_file=bytearray((folder / MODEL_FILE).read_bytes())),
        "model_format": MODEL_FILE.removeprefix("model."),
        "signature": _signature(contract),
        "input_example": _example(record, contract),
        "pip_requirements": [f"{name}=={installed(name)}" for name in MODEL_REQUIREMENTS],
    }


def _example(record: Record, contract: Contract) -> pd.DataFrame:
    """Return the input example with the types of the signature, against which MLflow checks it."""
    frame = pd.DataFrame([record.example])
    for column in contract.columns:
        if column.parts:
            frame[column.name] = pd.to_datetime(frame[column.name])
    return frame


def _signature(contract: Contract) -> ModelSignature:
    """Return MLflow's signature of the columns, of which the contract contains more details."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType[column.type], column.name, column.required) for column in contract.columns
    ]
    outputs = len(contract.classes) if contract.task == "multiclass" else 0
    shape = (-1, outputs) if outputs else (-1,)
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype(np.float32), shape)]))
