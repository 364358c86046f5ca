"""The rows that a model was not trained on, reloaded from their source.

Their digest is compared with that of the training. A copy of the rows with each run would expose personal data to all
users that may read a model, and a deletion request would have to find a person's row in every run.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from training.data import dataset as data
from training.data import split
from training.errors import InputError
from training.fitting.metrics import Truth
from training.tracking import manifest
from training.tracking.manifest import Manifest
from training.workers import shards


class HoldoutError(Exception):
    """The rows no longer exist or have changed. The message is a sentence without its full stop."""


@dataclass(frozen=True)
class Holdout:
    """Held-out rows with the columns of a model, their true values, and the digest of the rows."""

    frame: pd.DataFrame
    truth: Truth
    sha256: str


def digest(client: MlflowClient, run_id: str) -> str:
    """Return the digest of the rows that a run held out, or "" if the run did not record them."""
    try:
        return _digest(manifest.read(client, run_id)) if run_id else ""
    except InputError:
        return ""


def reload(client: MlflowClient, run_id: str) -> Holdout:
    """Return the rows that a run held out, after a check that the data have not changed.

    Raises:
        HoldoutError: The data have changed, or cannot be read.
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable or refuses.
    """
    if not run_id:
        raise HoldoutError("it has no run, and therefore no record of its held-out rows")
    try:
        known = manifest.read(client, run_id)
        frame, truth, sha256 = _alone(known) if known.world_size == 1 else _sharded(known)
    except InputError as error:
        raise HoldoutError(f"its held-out rows cannot be reloaded: {str(error).rstrip('.')}") from None
    if sha256 != known.data.sha256:
        now = f"{known.data.spec.source} now has the digest {sha256[:12]}"
        raise HoldoutError(f"its data have changed: it was trained on {known.data.sha256[:12]}, {now}")
    return Holdout(frame, truth, _digest(known))


def _alone(known: Manifest) -> tuple[pd.DataFrame, Truth, str]:
    loaded = data.load(known.data.spec)
    rows = split.split(loaded, known.split.spec).holdout
    groups = None if loaded.groups is None else loaded.groups[rows]
    return loaded.frame.iloc[rows], Truth(loaded.target[rows].astype(np.float64), groups), loaded.sha256


def _sharded(known: Manifest) -> tuple[pd.DataFrame, Truth, str]:
    frame, target, sha256 = shards.held_out(known.data.spec, known.split.spec, known.world_size)
    return frame, Truth(target.astype(np.float64), None), sha256


def _digest(known: Manifest) -> str:
    """Return the digest of the data and the row numbers, because equal numbers in different data are different rows."""
    return hashlib.sha256(f"{known.data.sha256} {known.split.holdout_sha256}".encode()).hexdigest()
