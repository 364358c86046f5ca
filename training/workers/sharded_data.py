"""The training data of several workers: the shard of each, and the data that the first worker records.

Each worker holds the features of its own row groups, and the target of all rows. The workers exchange the categories of
their columns, and all split the rows as a single worker would. The first worker also gets the features of all held-out
rows, because it alone measures the model and uses MLflow.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.dataset import Data, DataSpec, SplitSpec
from training.data.parquet_table import ParquetTable
from training.data.split import Identity, Rows, Split, split
from training.data.storage import place
from training.workers import row_groups, shards
from training.workers.group import Group


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
    whole = shards.read_labels(spec)
    shard = whole.shard(group)
    # The workers exchange examples of their categories, because no worker reads the features of another one.
    data = shards.prepare(whole, shard, _everyones(group, whole.examples(shard)))
    digests = _everyones(group, data.sha256)
    parts = split(whole.all_rows(data), split_spec)
    mine = Split(
        parts.rule,
        _within(shard.rows, parts.rest),
        _within(shard.rows, parts.holdout),
        tuple((_within(shard.rows, a), _within(shard.rows, b)) for a, b in parts.folds),
        parts.time_from,
    )
    identity = Identity(
        raw_sha256="",  # only the first worker reads all bytes, in `gather`
        sha256=shards.digest(digests),
        rows=len(whole.target),
        holdout_sha256=parts.holdout_sha256,
        workers=group.size,
        shard_rule=row_groups.RULE,
    )
    return ShardedData(data, mine, identity)


def gather(shared: ShardedData, group: Group) -> ShardedData:
    """Return the data that the first worker records: its own training rows, and the held-out rows of all workers."""
    data, parts = shared.data, shared.parts
    held = group.joined(data.features_of(parts.holdout))
    target = group.joined(data.target[parts.holdout])
    weights = None
    if data.weights is not None:
        weights = np.concatenate([data.weights[parts.rest], group.joined(data.weights[parts.holdout])])
    frame = pd.DataFrame({name: _column(held[:, i], data.frame[name]) for i, name in enumerate(data.frame.columns)})
    whole = dataclasses.replace(
        data,
        frame=pd.concat([data.frame.iloc[parts.rest], frame], ignore_index=True),
        target=np.concatenate([data.target[parts.rest], target]),
        weights=weights,
    )
    own = len(parts.rest)
    holdout = np.arange(own, own + len(held), dtype=np.int64)
    rows = dataclasses.replace(parts, rest=np.arange(own, dtype=np.int64), holdout=holdout, folds=())
    raw = ParquetTable(place(data.spec.source)).sha256 if group.first else ""
    return ShardedData(whole, rows, dataclasses.replace(shared.identity, raw_sha256=raw))


def _everyones(group: Group, mine: Any) -> list[Any]:
    """Return the values of all workers, in the order of the workers."""
    text = (json.dumps(mine) + "\n").encode()
    return [json.loads(line) for line in group.joined(np.frombuffer(text, dtype=np.uint8)).tobytes().splitlines()]


def _within(rows: NDArray[np.int64], wanted: Rows) -> Rows:
    """Return the positions of the wanted rows among the rows of this worker."""
    return np.flatnonzero(np.isin(rows, wanted)).astype(np.int64)


def _column(values: NDArray[np.float32], like: "pd.Series[Any]") -> Any:
    if isinstance(like.dtype, pd.CategoricalDtype):
        codes = np.where(np.isnan(values), -1, values).astype(np.int64)
        return pd.Categorical.from_codes(codes, dtype=like.dtype)
    return values
