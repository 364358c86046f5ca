"""Have the rows again that a model was not trained on.

They are loaded from where the training loaded them and compared by digest: a copy beside each run would put rows of
people into MLflow, where whoever may read a model may read them, and where deleting a person's row means finding it in
every run.
"""

from dataclasses import dataclass

import pandas as pd
from mlflow import MlflowClient

from training import data
from training.compare import Truth


class HoldoutError(Exception):
    """The rows are not there any more, or are others. Its text is one sentence."""


@dataclass(frozen=True)
class Holdout:
    """Rows with a model's columns, and what is true of each."""

    frame: pd.DataFrame
    truth: Truth
    sha256: str


def digest(client: MlflowClient, run_id: str) -> str:
    """Return the digest of the rows that a run held out, "" when it recorded none."""
    return str(client.get_run(run_id).data.tags.get("data.holdout_sha256", "")) if run_id else ""


def reload(client: MlflowClient, run_id: str) -> Holdout:
    """Return the rows that a run held out, once they are seen to be the same.

    Raises:
        HoldoutError: they are not.
    """
    run = client.get_run(run_id)
    loaded = data.load()
    split = data.split(loaded, int(run.data.params["split_seed"]))
    if split.holdout_sha256 != digest(client, run_id):
        raise HoldoutError("the held-out rows are not those of the run")
    rows = split.holdout
    return Holdout(loaded.frame.iloc[rows], Truth(loaded.target[rows].astype("float64")), split.holdout_sha256)
