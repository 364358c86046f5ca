"""Have the rows again that a model was not trained on.

They are loaded from where the training loaded them and compared by digest: a copy beside each run would put rows of
people into MLflow, where whoever may read a model may read them, and where deleting a person's row means finding it in
every run.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from training import data, manifest, shares, split
from training.compare import Truth
from training.errors import InputError
from training.manifest import Manifest


class HoldoutError(Exception):
    """The rows are not there any more, or are others. Its text is a sentence without its full stop."""


@dataclass(frozen=True)
class Holdout:
    """Rows with a model's columns, and what is true of each."""

    frame: pd.DataFrame
    truth: Truth
    sha256: str


def digest(client: MlflowClient, run_id: str) -> str:
    """Return what names the rows that a run held out, "" when it recorded none."""
    try:
        return _digest(manifest.read(client, run_id)) if run_id else ""
    except InputError:
        return ""


def reload(client: MlflowClient, run_id: str) -> Holdout:
    """Return the rows that a run held out, once the data are seen to be the same.

    Raises:
        HoldoutError: they are not.
        mlflow.exceptions.MlflowException, OSError: MLflow does not answer or refuses.
    """
    if not run_id:
        raise HoldoutError("it has no run, so nothing says which rows were held out")
    try:
        known = manifest.read(client, run_id)
        frame, truth, sha256 = _alone(known) if known.world_size == 1 else _by_shares(known)
    except InputError as error:
        raise HoldoutError(f"its held-out rows cannot be had: {str(error).rstrip('.')}") from None
    if sha256 != known.data.sha256:
        here = f"{known.data.spec.source} holds {sha256[:12]}"
        raise HoldoutError(f"its held-out rows are not there any more: trained on {known.data.sha256[:12]}, {here}")
    return Holdout(frame, truth, _digest(known))


def _alone(known: Manifest) -> tuple[pd.DataFrame, Truth, str]:
    loaded = data.load(known.data.spec)
    rows = split.split(loaded, known.split.spec).holdout
    groups = None if loaded.groups is None else loaded.groups[rows]
    return loaded.frame.iloc[rows], Truth(loaded.target[rows].astype(np.float64), groups), loaded.sha256


def _by_shares(known: Manifest) -> tuple[pd.DataFrame, Truth, str]:
    frame, target, sha256 = shares.held_out(known.data.spec, known.split.spec, known.world_size)
    return frame, Truth(target.astype(np.float64), None), sha256


def _digest(known: Manifest) -> str:
    """Of the data and the numbers of the rows in them: the same numbers in other data are other rows."""
    return hashlib.sha256(f"{known.data.sha256} {known.split.holdout_sha256}".encode()).hexdigest()
