"""The shards of a Parquet data set, prepared for XGBoost by the workers or later by the gate.

A shard contains the features of the row groups of one worker. All shards together determine the categories of a column.
The target of all rows is known to each worker. The gate reloads the rows that the workers held out: it prepares one
shard after the other, and so needs no more memory than one worker.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.model.contract import Task
from training.data import preprocessing, row_hash, row_times, row_weights
from training.data.column_names import check_present, index_names, matching
from training.data.dataset import Data, DataSpec, Matrix, SplitSpec
from training.data.null_words import without_words
from training.data.parquet_table import ParquetTable
from training.data.split import split
from training.data.storage import place
from training.data.training_table import BUILT_IN
from training.errors import InputError
from training.workers import row_groups
from training.workers.group import Group


@dataclass(frozen=True)
class Shard:
    """Features as stored in the files, and the numbers of their rows among all labelled rows, shape (rows,)."""

    rank: int
    table: pa.Table
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """The target of all rows.

    Args:
        source: The files.
        spec: Specification of the data.
        features: Columns of the features.
        labelled: Mask of the rows with a target, shape (rows,).
        task: Task of the model.
        classes: Classes by number.
        target: Values to predict, shape (labelled rows,).
        key: Columns whose hash decides the holdout, if any.
        key_hashes: Hash of the key of each labelled row, shape (labelled rows,), or None.
        times: Time of each labelled row, or None.
        weights: Weight of each labelled row, shape (labelled rows,), or None.
    """

    source: ParquetTable
    spec: DataSpec
    features: tuple[str, ...]
    labelled: NDArray[np.bool_]
    task: Task
    classes: tuple[str, ...]
    target: Matrix
    key: tuple[str, ...] = ()
    key_hashes: row_hash.Hashes | None = None
    times: row_times.RowTimes | None = None
    weights: row_weights.Weights | None = None

    def shard(self, group: Group) -> Shard:
        """Read the features of the rows of one worker."""
        own = row_groups.read(self.source, group, self.features)
        table = without_words(own.table, self.spec.null_words or (), self.features)
        kept = self.labelled[own.rows]
        number = np.cumsum(self.labelled) - 1
        return Shard(group.rank, table.filter(pa.array(kept)), number[own.rows[kept]])

    def all_rows(self, data: Data) -> Data:
        """Return the data of a shard with the target, key and time of all rows, which the split needs."""
        return dataclasses.replace(data, target=self.target, key_hashes=self.key_hashes, times=self.times)

    def examples(self, shard: Shard) -> list[list[Any]]:
        """Return the values by column from which the other workers derive the same description of the column."""
        table = shard.table
        return [_examples(table.column(name), name in self.spec.categorical) for name in table.column_names]


def read_labels(spec: DataSpec) -> Labels:
    """Read the target of all rows.

    Raises:
        InputError: The data cannot be used, or not by several workers.
        TrainingError: The data are unreachable.
    """
    if not spec.target:
        raise InputError("--target (TRAINING_TARGET): name the column to predict; several workers need Parquet data.")
    if spec.group:
        raise InputError("--group (TRAINING_GROUP): several workers would split groups; train with one worker.")
    if spec.group_metrics:
        raise InputError("--group-metrics (TRAINING_GROUP_METRICS): no worker has all rows; train with one worker.")
    if spec.dates:
        raise InputError("--dates (TRAINING_DATES): several workers do not make features of dates; train with one.")
    if spec.min_category_count > 1:
        raise InputError(
            "--min-category-count (TRAINING_MIN_CATEGORY_COUNT): no worker has all rows; train with one worker."
        )
    if spec.source in BUILT_IN:
        raise InputError(f"{spec.source} is a built-in data set; several workers need the row groups of Parquet files.")
    source = ParquetTable(place(spec.source))
    for option, name in {row_times.OPTION: spec.time_column, row_weights.OPTION: spec.weight_column}.items():
        if name:
            check_present(source.schema.names, (name,), option)
    dropped = matching(source.schema.names, spec.drop, "--drop (TRAINING_DROP)")
    dropped += index_names(source.schema.names) if spec.csv else ()
    for option, given in {"target": (spec.target,), "categorical": spec.categorical}.items():
        check_present(source.schema.names, given, f"--{option} (TRAINING_{option.upper()})")
    if row_hash.ALL in spec.holdout_key:
        raise InputError("--holdout-key (TRAINING_HOLDOUT_KEY): several workers need the names of the key columns.")
    key = row_hash.key_columns(source.schema.names, spec.holdout_key)
    names = list(dict.fromkeys(filter(None, [spec.target, *key, spec.time_column, spec.weight_column])))
    raw = without_words(row_groups.read(source, Group(), names).table, spec.null_words or (), names)
    labelled = preprocessing.labelled(raw, spec.target, skip=spec.skip_unlabelled)
    known = raw.filter(pa.array(labelled))
    task, classes, target = preprocessing.target_of(known, spec.target, spec.task, (), spec.positive)
    others = {spec.target, spec.time_column, spec.weight_column, *dropped}
    features = tuple(name for name in source.schema.names if name not in others)
    hashes = row_hash.key_hashes(known, key) if key else None
    times = row_times.times_of(known, spec.time_column) if spec.time_column else None
    weights = row_weights.weights_of(known, spec.weight_column) if spec.weight_column else None
    return Labels(source, spec, features, labelled, task, classes, target, key, hashes, times, weights)


def prepare(known: Labels, shard: Shard, examples: Sequence[list[list[Any]]]) -> Data:
    """Return the prepared data of a shard, with the categories of all shards.

    The examples of all workers are appended to the rows of the shard, and removed after the preparation of the column.
    Each worker therefore describes its columns as if it had all rows.

    Args:
        known: The target of all rows.
        shard: The shard of one worker.
        examples: Examples of each worker, in the order of the workers.
    """
    columns, series = [], {}
    for i, name in enumerate(shard.table.column_names):
        kind = shard.table.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        cells = shard.table.column(name).cast(kind).combine_chunks()
        cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        below = pa.array([value for each in examples for value in each[i]], kind)
        both = pa.table({name: pa.concat_arrays([cells, below])})
        try:
            column, values = preprocessing.feature(both, name, name in known.spec.categorical)
        except InputError as error:
            raise InputError(f"Rows of worker {shard.rank}: {error}") from None
        columns.append(column)
        series[name] = values.iloc[: shard.table.num_rows]
    return Data(
        known.source.place.path.rpartition("/")[2],
        known.spec,
        pd.DataFrame(series),
        tuple(columns),
        known.target[shard.rows],
        known.spec.target,
        known.task,
        known.classes,
        None,
        "",
        known.key,
        weights=None if known.weights is None else known.weights[shard.rows],
    )


def digest(digests: Sequence[str]) -> str:
    """Return the digest of the whole data, from the digests of all workers in their order."""
    return hashlib.sha256(json.dumps([row_groups.RULE, list(digests)]).encode()).hexdigest()


class HeldOut(NamedTuple):
    """The held-out rows of all workers, and the digest of all data."""

    frame: pd.DataFrame
    target: Matrix
    weights: row_weights.Weights | None
    key_hashes: row_hash.Hashes | None
    times: row_times.RowTimes | None
    sha256: str


def held_out(spec: DataSpec, split_spec: SplitSpec, workers: int) -> HeldOut:
    """Return the rows that this many workers hold out.

    Raises:
        InputError: The data can no longer be used.
        TrainingError: The data are unreachable.
    """
    known = read_labels(spec)
    groups = [Group(rank, workers) for rank in range(workers)]
    examples = [known.examples(known.shard(group)) for group in groups]
    digests: list[str] = []
    frames, numbers = [], []
    for group in groups:
        shard = known.shard(group)
        data = prepare(known, shard, examples)
        if not digests:
            held = split(known.all_rows(data), split_spec).holdout
        mine = np.isin(shard.rows, held)
        digests.append(data.sha256)
        frames.append(data.frame[mine])
        numbers.append(shard.rows[mine])
    order = np.argsort(np.concatenate(numbers))
    hashes = None if known.key_hashes is None else known.key_hashes[held]
    times = None if known.times is None else known.times.of(held)
    weights = None if known.weights is None else known.weights[held]
    frame = pd.concat(frames, ignore_index=True).iloc[order]
    return HeldOut(frame, known.target[held], weights, hashes, times, digest(digests))


def _examples(column: pa.ChunkedArray, categorical: bool) -> list[Any]:
    """Return all distinct values of a categorical column, or one number and a null if there is one."""
    kind = column.type
    if not categorical and (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        some = column.drop_null().slice(0, 1).to_pylist()
        return [value if isinstance(value, int) else float(value) for value in some] + [None] * bool(column.null_count)
    return list(pc.unique(column).to_pylist())
