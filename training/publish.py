"""Upload a finished training to MLflow and register its model.

The order is the promise: what is registered is read back and compared with what was trained, and only then is the
version given its tags, and the alias that was asked for.
"""

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
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

from app.contract import CONTRACT_FILE, MODEL_FILE, Contract
from training.bundle import PICTURES, RECORD_FILE, Record
from training.errors import TrackingError
from training.manifest import MANIFEST_FILE
from training.progress import bar
from training.runs import FAILURE_TAG
from training.tracking import answering

# What MLflow needs to load the model, written out: left to itself it asks for the CUDA build as well.
MODEL_REQUIREMENTS = ("xgboost-cpu", "numpy", "pandas")
_METRICS_PER_CALL = 1000  # MLflow's own limit
_LONGEST_WAIT_SECONDS = 30.0

log = logging.getLogger("training")


@dataclass(frozen=True)
class Published:
    """A registered model version; `sha256` is of its model file as MLflow gives it out."""

    name: str
    version: str
    uri: str
    run_id: str
    sha256: str
    metrics: dict[str, float]


def publish(folder: Path, run_id: str, where: str, *, retry_seconds: float) -> Published:
    """Log what the folder holds to a run, register the model and verify it.

    A lost connection is waited for; what is there already is not made twice.

    Args:
        folder: that `bundle.write` wrote.
        run_id: of a run that is open in this process.
        where: the MLflow server.
        retry_seconds: after the first failure, until it is one.

    Raises:
        TrackingError: MLflow does not answer or refuses, or the registered file is not the one that was trained.
    """
    record = Record.model_validate_json((folder / RECORD_FILE).read_bytes())
    wait, deadline = 1.0, 0.0
    while True:
        try:
            with answering(where):
                return _attempt(folder, record, run_id)
        except TrackingError as error:
            deadline = deadline or time.monotonic() + retry_seconds
            if time.monotonic() + wait > deadline:
                raise
            log.warning("%s Trying again in %.0f s, for %.0f s.", error, wait, deadline - time.monotonic())
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def verify(uri: str, sha256: str) -> None:
    """Compare what the registry gives out with what was trained: MLflow itself checks no digest anywhere.

    Raises:
        TrackingError: it is another file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{MODEL_FILE}", dst_path=folder)
        found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if found != sha256:
        raise TrackingError(f"{uri} holds a {MODEL_FILE} with sha256 {found}, but {sha256} was trained and logged.")


def _attempt(folder: Path, record: Record, run_id: str) -> Published:
    client = mlflow.MlflowClient()
    with bar("upload", 5, "step") as progress:
        mlflow.log_params(record.params)
        mlflow.set_tags(record.tags)
        if FAILURE_TAG in client.get_run(run_id).data.tags:  # of an earlier attempt
            client.delete_tag(run_id, FAILURE_TAG)
        # MLflow takes 36 characters: enough to tell data sets apart; the whole digest is a tag.
        source = json.dumps({"uri": record.source})
        origin = Dataset(record.tags["data.name"], record.tags["data.sha256"][:36], "training", source)
        client.log_inputs(run_id, [DatasetInput(origin, [InputTag("mlflow.data.context", "training")])])
        progress.advance()
        mlflow.log_metrics(record.metrics)
        for batch in _batches(record.history):
            client.log_batch(run_id, metrics=batch)
        progress.advance()
        client.log_artifacts(run_id, str(folder / PICTURES), PICTURES)
        client.log_artifact(run_id, str(folder / MANIFEST_FILE))
        progress.advance()
        version = _registered(client, record, run_id) or _register(client, folder, record, run_id)
        progress.advance()
        uri = f"models:/{record.model_name}/{version}"
        verify(uri, record.sha256)
        for key, value in record.version_tags.items():
            client.set_model_version_tag(record.model_name, version, key, value)
        for key in ("task", "target"):
            client.set_registered_model_tag(record.model_name, key, record.tags[key])
        if record.alias:
            client.set_registered_model_alias(record.model_name, record.alias, version)
        progress.advance()
    log.info("registered %s (sha256 %s)", uri, record.sha256)
    return Published(record.model_name, version, uri, run_id, record.sha256, record.metrics)


def _batches(history: dict[str, list[float]]) -> Iterator[Sequence[Metric]]:
    """Yield the metrics by round as MLflow's calls take them."""
    now = int(time.time() * 1000)
    metrics = (
        Metric(name, value, now, step) for name, values in history.items() for step, value in enumerate(values, 1)
    )
    while batch := list(islice(metrics, _METRICS_PER_CALL)):
        yield batch


def _registered(client: mlflow.MlflowClient, record: Record, run_id: str) -> str:
    """Return the version that an earlier attempt registered, whose answer was lost; "" when there is none."""
    found = client.search_model_versions(f"name = '{record.model_name}' and run_id = '{run_id}'")
    return str(found[0].version) if found else ""


def _register(client: mlflow.MlflowClient, folder: Path, record: Record, run_id: str) -> str:
    """Log the booster as UBJSON with its contract in the same folder and make it a version; return its number."""
    info = mlflow.xgboost.log_model(name="model", **_logged(folder))
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / CONTRACT_FILE).write_bytes((folder / CONTRACT_FILE).read_bytes())
        client.log_model_artifacts(info.model_id, work)
    try:
        client.create_registered_model(record.model_name)
    except MlflowException as error:  # two first runs at once are both right
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{info.model_id}"
    made = client.create_model_version(record.model_name, source=source, run_id=run_id, model_id=info.model_id)
    return str(made.version)


def save(folder: Path, target: Path) -> None:
    """Write the model's folder as it is registered, without a server.

    Args:
        folder: that `bundle.write` wrote.
        target: does not exist yet.
    """
    arguments = _logged(folder)
    mlflow.xgboost.save_model(arguments.pop("xgb_model"), str(target), **arguments)
    (target / CONTRACT_FILE).write_bytes((folder / CONTRACT_FILE).read_bytes())


def _logged(folder: Path) -> dict[str, Any]:
    """Return what MLflow's functions take to store the model."""
    contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
    record = Record.model_validate_json((folder / RECORD_FILE).read_bytes())
    return {
        "xgb_model": xgb.Booster(model_file=bytearray((folder / MODEL_FILE).read_bytes())),
        "model_format": MODEL_FILE.removeprefix("model."),
        "signature": _signature(contract),
        "input_example": pd.DataFrame([record.example]),
        "pip_requirements": [f"{name}=={installed(name)}" for name in MODEL_REQUIREMENTS],
    }


def _signature(contract: Contract) -> ModelSignature:
    """Return what MLflow says of the same columns; the contract knows more of them."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType[column.type], column.name, column.required) for column in contract.columns
    ]
    outputs = len(contract.classes) if contract.task == "multiclass" else 0
    shape = (-1, outputs) if outputs else (-1,)
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype(np.float32), shape)]))
