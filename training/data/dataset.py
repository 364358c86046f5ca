"""The training data: its specification, the prepared columns, and the digest that identifies them.

MLflow's data set digest has 8 characters of an md5 over the first 10,000 rows, which is too weak for an audit.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.model.contract import ContractColumn, DatePart, Task
from app.model.dates import PARTS
from training.data import (
    date_columns,
    preprocessing,
    row_hash,
    row_slices,
    row_times,
    row_weights,
    survival,
    training_table,
)
from training.data.column_names import check_names, check_present, index_names, listed, matching
from training.data.csv_format import CsvFormat, check_notation
from training.data.training_table import Raw
from training.errors import InputError
from training.metrics.truth import Truth

Matrix = NDArray[np.float32]
_BLOCK = 4096  # rows, which fit the processor's cache


class DataSpec(BaseModel):
    """The table and the options that, with the bytes of the file, determine the prepared data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = "breast_cancer"
    target: str = ""
    task: Literal["auto"] | Task = "auto"
    group: str = ""
    positive: str = ""
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    min_category_count: int = 1
    dates: tuple[str, ...] = ()
    date_parts: tuple[DatePart, ...] = PARTS
    skip_unlabelled: bool = False
    null_words: tuple[str, ...] | None = None
    holdout_key: tuple[str, ...] = ()
    time_column: str = ""
    weight_column: str = ""
    event_column: str = ""
    upper_bound_column: str = ""
    group_metrics: tuple[str, ...] = ()
    csv: CsvFormat | None = None


@dataclass(frozen=True)
class Data:
    """Prepared data.

    Args:
        name: Name of the data set.
        spec: Specification from which the data were loaded.
        frame: Features as XGBoost takes them, shape (rows, features): float32 with NaN for missing, or `category`.
        columns: Descriptions of the columns. Each part of a date is a feature, any other column is one feature.
        target: Values to predict, shape (rows,). A class is its number.
        target_name: Column of the target.
        task: Task of the model.
        classes: Classes by number, empty for a regression.
        groups: Number of the group of each row, shape (rows,), ascending. None without groups.
        raw_sha256: Digest of the file.
        key: Columns whose hash assigns a row to the holdout. Empty for a split by row numbers.
        key_hashes: Hash of the key of each row, shape (rows,). None without a key.
        times: Time of each row. None without a time column.
        weights: Weight of each row, shape (rows,). None without a weight column.
        upper: Upper bound of the time of each row, of which the target is the lower one, shape (rows,). None if the
            target is not a time until an event.
        slices: Groups of each row for `--group-metrics`, shape (rows, columns). None without such columns.
        moments: Seconds since 1970 of each row, shape (rows,), by column of dates.
        files: Digest of each file by its path in a folder. Empty for a single file.
    """

    name: str
    spec: DataSpec
    frame: pd.DataFrame
    columns: tuple[ContractColumn, ...]
    target: Matrix
    target_name: str
    task: Task
    classes: tuple[str, ...]
    groups: NDArray[np.int64] | None
    raw_sha256: str
    key: tuple[str, ...] = ()
    key_hashes: row_hash.Hashes | None = None
    times: row_times.RowTimes | None = None
    weights: row_weights.Weights | None = None
    upper: survival.Times | None = None
    slices: pd.DataFrame | None = None
    moments: Mapping[str, date_columns.Moments] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def truth(self) -> Truth:
        """The true values against which predictions are measured."""
        return Truth.of(self.target, self.groups, self.weights, self.upper, self.task == "survival_risk")

    @property
    def features(self) -> Matrix:
        """The matrix that XGBoost sees, shape (rows, features). A category is its number, and NaN is missing."""
        return self.features_of(np.arange(len(self.frame)))

    def features_of(self, rows: NDArray[np.int64]) -> Matrix:
        """Return these rows of `features`, shape (rows, features), in column-major order."""
        matrix = np.empty((len(rows), self.frame.shape[1]), dtype=np.float32, order="F")
        for i, name in enumerate(self.frame.columns):
            matrix[:, i] = preprocessing.numbers(self.frame[name])[rows]
        return matrix

    @property
    def column_sha256(self) -> dict[str, str]:
        """Digest of each feature, of the target and of its events, as float32 with the categories.

        They name a changed column.
        """
        known = {column.name: column.categories for column in self.columns} | {self.target_name: self.classes}
        own = {self.target_name: self.target}
        if self.upper is not None and (name := self.spec.event_column or self.spec.upper_bound_column):
            own[name] = self.upper
        found = {}
        for name in (*self.frame.columns, *own):
            values = own[name] if name in own else preprocessing.numbers(self.frame[name])
            digest = hashlib.sha256(json.dumps(known.get(name, ())).encode() + b"\0")
            digest.update(np.ascontiguousarray(values, dtype="<f4").data)
            found[name] = digest.hexdigest()
        return found

    @property
    def sha256(self) -> str:
        """Digest of the prepared float32 data with the column names, categories and classes.

        The digest of the file is not enough: the preparation, and with it the model, can differ between processors.
        """
        digest = hashlib.sha256()
        names = [
            [column.name, column.type, list(column.categories), *([list(column.parts)] if column.parts else [])]
            for column in self.columns
        ]
        digest.update(json.dumps([names, self.target_name, self.task, self.classes]).encode())
        digest.update(str(self.frame.shape).encode() + b"\0")
        columns = [preprocessing.codes(self.frame[name]) for name in self.frame.columns]
        for start in range(
            0, len(self.frame), _BLOCK
        ):  # by block: one copy would need the memory twice, and a copy by column is slow
            block = [preprocessing.decoded(each[start : start + _BLOCK]) for each in columns]
            digest.update(np.stack(block, axis=1, dtype="<f4").data)
        digest.update(str(self.target.shape).encode() + b"\0")
        digest.update(np.ascontiguousarray(self.target, dtype="<f4").data)
        if self.groups is not None:
            digest.update(np.ascontiguousarray(self.groups, dtype="<i8").data)
        if self.weights is not None:
            digest.update(np.ascontiguousarray(self.weights, dtype="<f4").data)
        if self.upper is not None:
            digest.update(np.ascontiguousarray(self.upper, dtype="<f4").data)
        return digest.hexdigest()


def load(spec: DataSpec | None = None) -> Data:
    """Read and prepare a table.

    Raises:
        InputError: The table cannot be read or used. The message names the column and the row, counted from 1 without
            the header.
        ResourceError: There is no room for a copy of the file.
    """
    spec = spec or DataSpec()
    with training_table.opened(spec.source, spec.null_words, spec.csv) as raw:
        return _loaded(spec.model_copy(update={"csv": raw.csv or spec.csv}), raw)


def _loaded(spec: DataSpec, raw: Raw) -> Data:
    names = raw.names
    check_names(names, spec.source)
    if not raw.rows:
        raise InputError(f"{spec.source} has columns but no rows.")
    target_name = spec.target or raw.target
    if not target_name:
        raise InputError(f"--target (TRAINING_TARGET): name the column to predict, one of {listed(names)}.")
    asked: dict[str, tuple[str, ...]] = {"target": (target_name,), "group": (spec.group,) if spec.group else ()}
    asked |= {"time-column": (spec.time_column,) if spec.time_column else ()}
    asked |= {"weight-column": (spec.weight_column,) if spec.weight_column else ()}
    asked |= {"event-column": (spec.event_column,) if spec.event_column else ()}
    asked |= {"upper-bound-column": (spec.upper_bound_column,) if spec.upper_bound_column else ()}
    dropped = matching(names, spec.drop, "--drop (TRAINING_DROP)")
    if raw.csv:
        check_notation(raw.columns(names), raw.csv, {*spec.categorical, *dropped})
    index = index_names(names) if spec.csv else ()
    asked |= {"categorical": spec.categorical, "group-metrics": spec.group_metrics, "dates": spec.dates}
    for option, wanted in asked.items():
        check_present(names, wanted, f"--{option} (TRAINING_{option.upper().replace('-', '_')})")
    if spec.task == "ranking" and not spec.group:
        raise InputError("--group (TRAINING_GROUP): a ranking needs the column that groups the rows.")
    others = (target_name, spec.group, spec.time_column, spec.weight_column, spec.event_column, spec.upper_bound_column)
    known = raw.columns(list(dict.fromkeys(filter(None, (*others, *spec.group_metrics)))))
    mask = preprocessing.labelled(known, target_name, skip=spec.skip_unlabelled)
    known = _kept(known, mask, None)
    weights = row_weights.weights_of(known, spec.weight_column) if spec.weight_column else None
    order, groups = preprocessing.grouped(known, spec.group) if spec.group else (None, None)
    if order is not None:
        known = known.take(order)
        weights = None if weights is None else weights[order]
    contents = [name for name in names if name not in index]
    key = row_hash.key_columns(contents, spec.holdout_key) if spec.holdout_key else ()
    if key and spec.group and key != (spec.group,):
        raise InputError("--holdout-key (TRAINING_HOLDOUT_KEY): the key of a ranking must be the column of --group.")
    hashes = _key_hashes(raw, key, mask, order) if key else None
    task, classes, target = preprocessing.target_of(known, target_name, spec.task, raw.classes, spec.positive)
    upper = None
    if task in survival.TASKS:
        columns_of_bounds = spec.event_column, spec.upper_bound_column
        target, upper = survival.bounds_of(known, target_name, target, *columns_of_bounds)
    times = row_times.times_of(known, spec.time_column) if spec.time_column else None
    if weights is not None and groups is not None and task == "ranking":
        row_weights.check_queries(weights, groups, spec.weight_column)
    slices = row_slices.slices_of(known, spec.group_metrics) if spec.group_metrics else None
    features = [name for name in names if name not in {*others, *dropped, *index, *raw.own}]
    if not features:
        raise InputError(
            f"{spec.source} has no feature: all columns are dropped or have another use, such as the target."
        )
    date_columns.check_dates(spec.dates, features, spec.date_parts)
    columns: list[ContractColumn] = []
    series: dict[str, pd.Series[Any]] = {}
    moments: dict[str, date_columns.Moments] = {}
    for block in raw.blocks(features):
        table = _kept(block, mask, order)
        for name in table.column_names:
            if name in spec.dates:
                column, parts, moments[name] = date_columns.feature(table, name, spec.date_parts)
                series |= parts
            else:
                described = preprocessing.feature(table, name, name in spec.categorical, spec.min_category_count)
                column, series[name] = described
            columns.append(column)
    facts = (
        target,
        target_name,
        task,
        classes,
        groups,
        raw.sha256(),
        key,
        hashes,
        times,
        weights,
        upper,
        slices,
        moments,
    )
    # Without a copy, which would need the memory of all columns twice.
    return Data(raw.name, spec, pd.DataFrame(series, copy=False), tuple(columns), *facts, raw.files())


def _key_hashes(
    raw: Raw, key: tuple[str, ...], mask: NDArray[np.bool_], order: NDArray[np.int64] | None
) -> row_hash.Hashes:
    total = np.zeros(int(mask.sum()), dtype=np.uint64)
    for block in raw.blocks(key):
        total += row_hash.key_hashes(_kept(block, mask, order), block.column_names)
    return total


def _kept(table: pa.Table, mask: NDArray[np.bool_], order: NDArray[np.int64] | None) -> pa.Table:
    """Return the rows with a target, in the order of their groups."""
    table = table if mask.all() else table.filter(pa.array(mask))
    return table if order is None else table.take(order)


class SplitSpec(BaseModel):
    """How rows are split: stratified by class, by whole groups, at random, by a hash of a key, or by time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    holdout_share: float = Field(default=0.2, gt=0, lt=0.9)
    validation_share: float = Field(default=0.2, gt=0, lt=0.9, description="Share of the rows outside the holdout.")
    folds: int = Field(
        default=1, ge=1, description="Number of validation parts. 1 uses one part of `validation_share`."
    )
    time_gap: str = Field(default="", description="Duration before each part of a split by time that is left out.")
