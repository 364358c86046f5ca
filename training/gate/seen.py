"""The rows of a data set that a version was not trained on, as far as its run has recorded that."""

import json
import os
from dataclasses import dataclass

import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from training.data import dataset, training_table
from training.data.row_hash import fractions, key_hashes
from training.data.row_times import parsed, times_of
from training.data.split import split
from training.data.training_table import Raw
from training.errors import InputError
from training.gate.promotion import NamedData
from training.tracking import manifest
from training.tracking.manifest import Manifest

_CONTEXT = "mlflow.data.context"
_TRAINING = ("train", "training")

Mask = NDArray[np.bool_]


class SeenError(Exception):
    """The version was trained on rows of the data. The message is a sentence without its full stop."""


@dataclass(frozen=True)
class Unseen:
    """What is known about the training rows of a version.

    Args:
        rows: Rows that it was not trained on, shape (rows,). None if that is unknown.
        sentence: The fact, without a full stop.
    """

    rows: Mask | None
    sentence: str


def unseen(client: MlflowClient, version: str, run_id: str, data: NamedData) -> Unseen:
    """Return the rows of the data that the version was not trained on.

    Raises:
        SeenError: It was trained on rows that cannot be distinguished from the others.
        InputError: The data cannot be read.
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable or refuses.
    """
    who = f"version {version}"
    if not run_id:
        return Unseen(None, f"it is unknown whether {who} was trained on some of the rows, because it has no run")
    try:
        known = manifest.read(client, run_id)
    except InputError:
        return _by_recorded_data(client, who, run_id, data)
    return _by_manifest(known, who, data)


def _by_recorded_data(client: MlflowClient, who: str, run_id: str, data: NamedData) -> Unseen:
    """Compare the data with those that MLflow has recorded for the run, such as by autolog."""
    inputs = client.get_run(run_id).inputs
    sources = []
    for each in inputs.dataset_inputs if inputs else ():
        context = next((tag.value for tag in each.tags if tag.key == _CONTEXT), "")
        if context in _TRAINING and (source := _source(each.dataset.source)):
            sources.append(source)
    if any(_same(source, data.source) for source in sources):
        raise SeenError(f"{who} was trained on {data.source}, by the record of its run; name data that it has not seen")
    if sources:
        return Unseen(None, f"{who} was trained on {', '.join(sources)}, by the record of its run")
    why = "because its run has not recorded its training data"
    return Unseen(None, f"it is unknown whether {who} was trained on some of the rows, {why}")


def _by_manifest(known: Manifest, who: str, data: NamedData) -> Unseen:
    spec = known.data.spec
    with training_table.opened(data.source, spec.null_words, spec.csv) as raw:
        return _by_rule(known, who, data, raw)


def _by_rule(known: Manifest, who: str, data: NamedData, raw: Raw) -> Unseen:
    spec, parts = known.data.spec, known.split
    wanted = (*parts.key, *filter(None, [spec.time_column if parts.time_from else ""]))
    if missing := [name for name in wanted if name not in raw.names]:
        raise SeenError(f"the data have no column {missing[0]}, which identifies the rows that {who} was trained on")
    if parts.key:
        rows = fractions(key_hashes(raw.columns(parts.key), parts.key), parts.spec.seed) < parts.spec.holdout_share
        return Unseen(rows, f"{who} has not seen the rows that the hash of {', '.join(parts.key)[:100]} holds out")
    if parts.time_from:
        times = times_of(raw.columns([spec.time_column]), spec.time_column)
        dated, start = parsed(parts.time_from)
        if dated != times.dated:
            raise SeenError(f"the column {spec.time_column} has a different type than in the training of {who}")
        return Unseen(
            times.values >= start, f"{who} has not seen the rows from {spec.time_column} {parts.time_from} on"
        )
    if raw.sha256() == known.data.raw_sha256:
        return _drawn(known, who, data, raw.rows)
    if _same(spec.source, data.source):
        remedy = "train it with --holdout-key or --time-column, or name data that it has not seen"
        raise SeenError(f"{who} was trained on rows of {data.source}, which has changed since then; {remedy}")
    return Unseen(None, f"{who} was trained on different data, {spec.source}; rows that are in both are unknown")


def _drawn(known: Manifest, who: str, data: NamedData, count: int) -> Unseen:
    """Return the rows that a run has drawn from the same file."""
    spec = known.data.spec.model_copy(update={"source": data.source})
    if spec.group or spec.skip_unlabelled or known.world_size > 1:
        raise SeenError(f"{who} was trained on rows of {data.source}, which cannot be distinguished; name other data")
    rows = np.zeros(count, dtype=np.bool_)
    rows[split(dataset.load(spec), known.split.spec).holdout] = True
    return Unseen(rows, f"{who} has not seen the rows that its training held out of the same file")


def _source(text: str) -> str:
    """Return the address of a data set in MLflow, or "" if it has none."""
    try:
        known = json.loads(text)
    except ValueError:
        return ""
    found = (known.get(key) for key in ("uri", "url", "path")) if isinstance(known, dict) else ()
    return next((str(each) for each in found if each), "")


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(uri: str) -> str:
    path = uri.removeprefix("file://")
    return path.rstrip("/") if "://" in path else os.path.abspath(path)
