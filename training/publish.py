"""Log a run to MLflow and register its model; the only module that talks to MLflow.

The order is the promise: the alias moves last, after the registered bytes were read back and compared, and
whatever goes wrong before that leaves the run FAILED and the alias where it was.
"""

import hashlib
import logging
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import mlflow.xgboost
from mlflow.data.pandas_dataset import from_pandas
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from app.contract import CONTRACT_FILE, MODEL_FILE, Contract
from training.data import Data, Split
from training.errors import Terminated, TrackingError
from training.fit import Fitted
from training.options import TrainOptions
from training.tracking import answering

# What MLflow needs to load the model, written out: left to itself it asks for the CUDA build as well.
MODEL_REQUIREMENTS = ("xgboost-cpu", "numpy", "pandas")
RECORDED_PACKAGES = ("xgboost-cpu", "numpy", "scikit-learn", "mlflow-skinny")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """A registered model version; `sha256` is of its model file as MLflow gives it out."""

    name: str
    version: str
    uri: str
    run_id: str
    sha256: str
    metrics: dict[str, float]


@contextmanager
def started_run(settings: TrainOptions) -> Iterator[str]:
    """Open a run in the experiment of the model's name; it ends FINISHED, KILLED or FAILED.

    Raises:
        TrackingError: MLflow does not answer or refuses, here or in the body.
    """
    tags = {MLFLOW_GIT_COMMIT: settings.git_commit} if settings.git_commit else {}
    with answering(settings.mlflow_tracking_uri):
        mlflow.set_experiment(settings.model_name)
        with mlflow.start_run(tags=tags) as run:
            log.info("run %s started in %s", run.info.run_id, settings.mlflow_tracking_uri)
            try:
                yield str(run.info.run_id)
            except (KeyboardInterrupt, Terminated):
                mlflow.end_run("KILLED")
                raise


def publish(run_id: str, data: Data, split: Split, fitted: Fitted, settings: TrainOptions) -> Published:
    """Log everything about the run, register the model, verify it and move the alias.

    Raises:
        TrackingError: the registered file is not the one that was trained.
        mlflow.exceptions.MlflowException, OSError: MLflow does not answer or refuses.
    """
    client = mlflow.MlflowClient()
    sha256 = hashlib.sha256(fitted.ubj).hexdigest()
    mlflow.log_params(settings.params)
    mlflow.set_tags(_provenance(data, split))
    # MLflow takes 36 characters: enough to tell data sets apart; the whole digest is a tag.
    mlflow.log_input(from_pandas(data.frame, name=data.name, digest=data.sha256[:36]), context="training")
    mlflow.log_metrics(fitted.metrics | {"rounds": fitted.rounds})
    model_id = _log_model(client, data, split, fitted)

    _ensure_registered_model(client, settings.model_name)
    version = client.create_model_version(
        settings.model_name, source=f"models:/{model_id}", run_id=run_id, model_id=model_id
    ).version
    uri = f"models:/{settings.model_name}/{version}"
    verify(uri, sha256)
    run_tags = client.get_run(run_id).data.tags
    tags = {"sha256": sha256, "data_digest": data.sha256, "git_commit": run_tags.get(MLFLOW_GIT_COMMIT, "")}
    for key, value in tags.items():
        if value:
            client.set_model_version_tag(settings.model_name, version, key, value)
    if settings.alias:
        client.set_registered_model_alias(settings.model_name, settings.alias, version)
    log.info("registered %s (sha256 %s)%s", uri, sha256, f" as @{settings.alias}" if settings.alias else "")
    return Published(settings.model_name, str(version), uri, run_id, sha256, fitted.metrics)


def _log_model(client: mlflow.MlflowClient, data: Data, split: Split, fitted: Fitted) -> str:
    """Log the booster as UBJSON with its contract in the same folder; return MLflow's model id."""
    example = data.frame.iloc[split.holdout[:1]]
    info = mlflow.xgboost.log_model(
        fitted.booster,
        name="model",
        model_format=MODEL_FILE.removeprefix("model."),
        signature=infer_signature(data.frame, fitted.booster.inplace_predict(data.features)),
        input_example=example,
        pip_requirements=[f"{name}=={installed(name)}" for name in MODEL_REQUIREMENTS],
    )
    contract = Contract(task="binary", target=data.target_name, classes=data.classes)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONTRACT_FILE).write_text(contract.model_dump_json(indent=2) + "\n", encoding="utf-8")
        client.log_model_artifacts(info.model_id, folder)
    return str(info.model_id)


def _ensure_registered_model(client: mlflow.MlflowClient, name: str) -> None:
    """Create the registered model unless it is there; two first runs at once are both right."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def verify(uri: str, sha256: str) -> None:
    """Compare what the registry gives out with what was trained: MLflow itself checks no digest anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{MODEL_FILE}", dst_path=folder)
        found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if found != sha256:
        raise TrackingError(f"{uri} holds a {MODEL_FILE} with sha256 {found}, but {sha256} was trained and logged.")


def _provenance(data: Data, split: Split) -> dict[str, str]:
    """Tags that say which data and which environment made the model."""
    return {
        "data.name": data.name,
        "data.raw_sha256": data.raw_sha256,
        "data.sha256": data.sha256,
        "data.holdout_sha256": split.holdout_sha256,
        "env.python": platform.python_version(),
        "env.machine": platform.machine(),
        "env.libc": "-".join(platform.libc_ver()),
    } | {f"env.{name}": installed(name) for name in RECORDED_PACKAGES}
