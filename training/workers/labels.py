"""The target of all rows, and what else decides the split: key, time and weight.

Each worker reads these columns of its own row groups. The workers exchange numbers only: a text of the target is its
position among the distinct texts of all workers. Each worker then has the same facts in the order of the files.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.model.contract import Task
from training.data import preprocessing, row_hash, row_times, row_weights
from training.data.column_names import check_present, index_names, matching
from training.data.dataset import DataSpec, Matrix
from training.data.null_words import without_words
from training.data.parquet_table import ParquetTable
from training.data.storage import place
from training.data.training_table import BUILT_IN
from training.errors import InputError
from training.workers import row_groups
from training.workers.group import ALONE, Group


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


@dataclass(frozen=True)
class _Own:
    """What one worker reads of its rows."""

    labelled: NDArray[np.bool_]
    target: pa.Array
    key_hashes: row_hash.Hashes | None
    times: row_times.RowTimes | None
    weights: row_weights.Weights | None


def read_labels(spec: DataSpec, group: Group = ALONE) -> Labels:
    """Read the target of the worker's rows, and return that of all rows.

    Raises:
        InputError: The data cannot be used, or not by several workers.
        TrainingError: The data are unreachable.
    """
    _check_options(spec)
    source = group.agreed(lambda: ParquetTable(place(spec.source)))
    _check_same_files(source, group)
    for option, name in {row_times.OPTION: spec.time_column, row_weights.OPTION: spec.weight_column}.items():
        if name:
            check_present(source.schema.names, (name,), option)
    dropped = matching(source.schema.names, spec.drop, "--drop (TRAINING_DROP)")
    dropped += index_names(source.schema.names) if spec.csv else ()
    for option, given in {"target": (spec.target,), "categorical": spec.categorical}.items():
        check_present(source.schema.names, given, f"--{option} (TRAINING_{option.upper()})")
    key = row_hash.key_columns(source.schema.names, spec.holdout_key)
    others = {spec.target, spec.time_column, spec.weight_column, *dropped}
    features = tuple(name for name in source.schema.names if name not in others)
    row_groups.check_enough(source, group)
    own = group.agreed(lambda: _own(source, spec, key, group))
    rows = row_groups.numbers(source, group)
    labelled = _ordered(group, own.labelled.astype(np.uint8), rows).astype(np.bool_)
    preprocessing.check_labelled(~labelled, spec.target, skip=spec.skip_unlabelled)
    rows = rows[own.labelled]
    column = _everyones_target(group, own.target, rows)
    task, classes, target = preprocessing.target_of(
        pa.table({spec.target: column}), spec.target, spec.task, (), spec.positive
    )
    hashes = None if own.key_hashes is None else _ordered(group, own.key_hashes, rows)
    weights = None if own.weights is None else _ordered(group, own.weights, rows)
    times = own.times
    if times is not None:
        times = row_times.RowTimes(_ordered(group, times.values, rows), times.dated)
    return Labels(source, spec, features, labelled, task, classes, target, key, hashes, times, weights)


def _check_options(spec: DataSpec) -> None:
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
    if row_hash.ALL in spec.holdout_key:
        raise InputError("--holdout-key (TRAINING_HOLDOUT_KEY): several workers need the names of the key columns.")


def _check_same_files(source: ParquetTable, group: Group) -> None:
    """Refuse files that differ between workers, such as copies of different days.

    Raises:
        InputError: The message names the first file that differs.
    """
    first, *rest = group.everyones(source.files)
    for rank, each in enumerate(rest, 1):
        for path in sorted({*first, *each}):
            if first.get(path) != each.get(path):
                raise InputError(
                    f"{source.place.uri}: {path or 'the file'} is not the same for worker 0 and worker {rank}; wait "
                    "until the data are complete, write new data to a new path, and start all workers again."
                )


def _own(source: ParquetTable, spec: DataSpec, key: tuple[str, ...], group: Group) -> _Own:
    names = list(dict.fromkeys(filter(None, [spec.target, *key, spec.time_column, spec.weight_column])))
    raw = without_words(row_groups.read(source, group, names), spec.null_words or (), names)
    labelled = ~pc.is_null(raw.column(spec.target), nan_is_null=True).to_numpy()
    known = raw if labelled.all() else raw.filter(pa.array(labelled))
    try:
        return _Own(
            labelled,
            preprocessing.encoded(known, spec.target),
            row_hash.key_hashes(known, key) if key else None,
            row_times.times_of(known, spec.time_column) if spec.time_column else None,
            row_weights.weights_of(known, spec.weight_column) if spec.weight_column else None,
        )
    except InputError as error:
        if group.size == 1:
            raise
        raise InputError(f"Rows of worker {group.rank}: {error}") from None


def _everyones_target(group: Group, own: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
    """Return the target of all rows. Text is a dictionary."""
    if not pa.types.is_dictionary(own.type):
        values = own.to_numpy(zero_copy_only=False)
        wide = {"i": np.int64, "u": np.uint64, "f": np.float64}[values.dtype.kind]  # XGBoost exchanges only some types
        return pa.array(_ordered(group, values.astype(wide, copy=False), rows))
    texts = own.dictionary.to_pylist()
    everyones = sorted({text for each in group.everyones(texts) for text in each})
    place_of = {text: i for i, text in enumerate(everyones)}
    mine = np.array([place_of[text] for text in texts], dtype=np.int32)[own.indices.to_numpy(zero_copy_only=False)]
    return pa.DictionaryArray.from_arrays(pa.array(_ordered(group, mine, rows)), pa.array(everyones, pa.string()))


def _ordered(group: Group, values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the values of the rows of all workers in the order of the files.

    Args:
        group: The workers.
        values: Values of the rows of this worker, shape (rows,).
        rows: Numbers of these rows, ascending.
    """
    if group.size == 1:
        return values
    return group.joined(values)[np.argsort(group.joined(rows), kind="stable")]
