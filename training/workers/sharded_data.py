"""The training data of several workers: the shard of each, and the rows on which the model is measured.

Each worker holds the features of its own row groups, and the target of all rows. The workers exchange the categories of
their columns, and all split the rows as a single worker would. Each worker predicts its own held-out rows. Only the
predictions, targets and weights of these rows are exchanged, never their features.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import xgboost as xgb

from training.data.dataset import Data, DataSpec, Matrix, SplitSpec
from training.data.matrices import predict
from training.data.split import Identity, Rows, Split, split
from training.workers import row_groups, shards
from training.workers.group import Group
from training.workers.labels import read_labels
from training.workers.shards import Shard


@dataclass(frozen=True)
class ShardedData:
    """The training data of several workers.

    Args:
        data: Rows of this worker.
        parts: Numbers of these rows by part of the split.
        identity: Digests and row count of the rows of all workers.
    """

    data: Data
    parts: Split
    identity: Identity


def load(spec: DataSpec, split_spec: SplitSpec, group: Group) -> ShardedData:
    """Read and prepare the rows of this worker.

    Raises:
        InputError: The data cannot be used, or not by several workers.
        TrainingError: The data are unreachable.
    """
    known = read_labels(spec, group)
    shard = Shard.of(known, group)
    # The workers exchange examples of their categories, because no worker reads the features of another one.
    data = shards.prepare(shard, lambda table: group.everyones(shard.examples(table)), group)
    digests = group.everyones(data.sha256)
    parts = split(shards.all_rows(known, data), split_spec)
    mine = Split(
        parts.rule,
        _within(shard.rows, parts.rest),
        _within(shard.rows, parts.holdout),
        tuple((_within(shard.rows, a), _within(shard.rows, b)) for a, b in parts.folds),
        parts.time_from,
    )
    identity = Identity(
        # The first worker alone reads all bytes.
        raw_sha256=known.source.checked_sha256() if group.first else "",
        sha256=shards.digest(digests),
        rows=len(known.target),
        holdout_sha256=parts.holdout_sha256,
        workers=group.size,
        shard_rule=row_groups.RULE,
    )
    return ShardedData(data, mine, identity)


@dataclass(frozen=True)
class Judged:
    """The held-out rows of all workers, without their features.

    Args:
        data: Data with the true values and weights.
        rows: Numbers of the held-out rows in `data`.
        output: Predictions of the booster, shape (rows,) or (rows, classes).
    """

    data: Data
    rows: Rows
    output: Matrix


def judge(shared: ShardedData, booster: xgb.Booster, nthread: int, group: Group) -> Judged:
    """Return the held-out rows with the predictions of a model, each by the worker that holds the row."""
    data, rows = shared.data, shared.parts.holdout
    own = predict(booster, data, rows, nthread) if len(rows) else np.zeros(0, dtype=np.float32)
    if group.size == 1:
        return Judged(data, rows, own)
    shape = max(group.everyones(own.shape[1:]))  # a worker without held-out rows does not know it
    output = group.joined(own.reshape(len(own), *shape))
    weights = None if data.weights is None else group.joined(data.weights[rows])
    held = dataclasses.replace(data, frame=data.frame.iloc[:0], target=group.joined(data.target[rows]), weights=weights)
    return Judged(held, np.arange(len(output), dtype=np.int64), output)


def _within(rows: Rows, wanted: Rows) -> Rows:
    """Return the positions of the wanted rows among the rows of this worker."""
    places = np.searchsorted(wanted, rows)
    found = np.zeros(len(rows), dtype=np.bool_)
    inside = places < len(wanted)
    found[inside] = wanted[places[inside]] == rows[inside]
    return np.flatnonzero(found).astype(np.int64)
