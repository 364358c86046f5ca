"""The command `train`: train a model, and register it in MLflow as a new version."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow

from training.data.storage import NO_ROOM
from training.environment import Environment, environment
from training.errors import ResourceError, TrackingError
from training.fitting.pipeline import Trained, train
from training.tracking import bundle, evidence
from training.tracking.bundle import Record
from training.tracking.mlflow_errors import mlflow_at
from training.tracking.publish import Published, publish
from training.tracking.published import published
from training.tracking.runs import started
from training.train_options import TrainOptions as Options
from training.workers.group import announced, joined

__all__ = ["Options", "run"]

log = logging.getLogger(__name__)


def run(options: Options) -> dict[str, Any]:
    """Train and register one model version; return its name, digest and metrics.

    Raises:
        TrainingError: Nothing is registered.
    """
    group = announced()
    if options.key and (known := _registered(options)):
        log.info("%s has the key %s: nothing to train", known.uri, options.key)
        return asdict(known)
    if not group.first:
        with joined():
            fitted = train(options, group).fitted
        return {"worker": group.rank, "file_sha256": hashlib.sha256(fitted.ubj).hexdigest()}
    here = environment(options.git_commit, options.nthread)
    proofs = evidence.collect(here)
    log.info("options: %s", options.recorded)
    with started(options) as run_id:
        with joined():
            trained = train(options, group, run_id)
        folder = _folder(options.keep_dir, run_id)
        record = _recorded(folder, run_id, trained, options, here, proofs)
        log.info("%d rounds on %s: %s", trained.fitted.rounds, trained.data.name, record.metrics)
        try:
            done = publish(folder, run_id, options.mlflow_tracking_uri, retry_seconds=options.retry_seconds)
        except TrackingError as error:
            raise type(error)(
                f"{error} The files of the run are kept: python -m training upload {folder.resolve()}"
            ) from error
        shutil.rmtree(folder)
        if trained.kept:
            trained.kept.clear()
    return asdict(done)


def _registered(options: Options) -> Published | None:
    """Return the version that an earlier training with the same key has registered."""
    with mlflow_at(options.mlflow_tracking_uri):
        return published(mlflow.MlflowClient(), options.model_name, options.key)


def _recorded(
    folder: Path, run_id: str, trained: Trained, options: Options, here: Environment, proofs: Mapping[str, bytes]
) -> Record:
    """Write the files of the run, or remove the folder if there is no room or no permission."""
    try:
        evidence.write(folder, proofs)
        return bundle.write(folder, run_id, trained, options, here)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno in NO_ROOM:
            raise ResourceError(f"No room in {folder.parent} for the files of the run ({error.strerror}).") from None
        raise ResourceError(f"{folder} cannot be written ({error.strerror}).") from None


def _folder(keep: Path, run_id: str) -> Path:
    """Return a new folder for the files of the run, or a temporary one if `keep` cannot be written."""
    folder = keep / run_id
    try:
        folder.mkdir(parents=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="training-kept-"))
    return folder
