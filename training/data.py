"""The training data: what to load, what XGBoost sees of it, and by digest exactly which data it was.

MLflow's own data set digest is 8 characters of an md5 over the first 10,000 rows: too weak for an audit.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.contract import ContractColumn, Task
from training import source, table
from training.errors import InputError
from training.names import listed, named, present

Matrix = NDArray[np.float32]
_BLOCK = 4096  # rows: stay in the processor's cache


class DataSpec(BaseModel):
    """Which table, and how it is read: all that decides the prepared data but the file's bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = "breast_cancer"
    target: str = ""
    task: Literal["auto"] | Task = "auto"
    group: str = ""
    positive: str = ""
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    skip_unlabelled: bool = False


@dataclass(frozen=True)
class Data:
    """Prepared data.

    `frame` (rows, columns) holds the features as XGBoost takes them: float32, NaN is missing, or `category`;
    `target` (rows,) a class as its number; `groups` (rows,) the number of a row's group, ascending, None without any.
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

    @property
    def features(self) -> Matrix:
        """The matrix that XGBoost sees, shape (rows, columns): a category as its number, NaN is missing."""
        return self.features_of(np.arange(len(self.frame)))

    def features_of(self, rows: NDArray[np.int64]) -> Matrix:
        """Return these rows as `features` has them, shape (rows, columns), laid out by column."""
        matrix = np.empty((len(rows), self.frame.shape[1]), dtype=np.float32, order="F")
        for i, name in enumerate(self.frame.columns):
            matrix[:, i] = table.numbers(self.frame[name])[rows]
        return matrix

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.target)

    @property
    def shared(self) -> tuple[int, str]:
        """How many workers share them, and by which rule."""
        return 1, ""

    @property
    def sha256(self) -> str:
        """Digest of the prepared float32 data with its column names, categories and classes.

        The raw file alone would not do: preparation can differ between processors, and the model with it.
        """
        digest = hashlib.sha256()
        names = [[column.name, column.type, list(column.categories)] for column in self.columns]
        digest.update(json.dumps([names, self.target_name, self.task, self.classes]).encode())
        digest.update(str(self.frame.shape).encode() + b"\0")
        columns = [table.numbers(self.frame[name]) for name in self.frame.columns]
        for start in range(
            0, len(self.frame), _BLOCK
        ):  # so that no second copy of all is made, nor a slow one by column
            digest.update(np.stack([each[start : start + _BLOCK] for each in columns], axis=1, dtype="<f4").data)
        digest.update(str(self.target.shape).encode() + b"\0")
        digest.update(np.ascontiguousarray(self.target, dtype="<f4").data)
        if self.groups is not None:
            digest.update(np.ascontiguousarray(self.groups, dtype="<i8").data)
        return digest.hexdigest()


def load(spec: DataSpec | None = None) -> Data:
    """Read and prepare a table.

    Raises:
        InputError: it cannot be had or cannot be used; names column and row, counted from 1 without the header.
        ResourceError: no room for a copy of it.
    """
    spec = spec or DataSpec()
    raw = source.read(spec.source)
    known = raw.table
    named(known.column_names, spec.source)
    if not known.num_rows:
        raise InputError(f"{spec.source} has columns but no rows.")
    target_name = spec.target or raw.target
    if not target_name:
        raise InputError(
            f"--target (TRAINING_TARGET): name the column to predict, one of {listed(known.column_names)}."
        )
    asked = {"target": (target_name,), "group": (spec.group,) if spec.group else ()}
    for option, names in (asked | {"drop": spec.drop, "categorical": spec.categorical}).items():
        present(known.column_names, names, f"--{option} (TRAINING_{option.upper()})")
    if spec.task == "ranking" and not spec.group:
        raise InputError("--group (TRAINING_GROUP): a ranking needs the column that says which rows belong together.")
    known = table.labelled(known, target_name, skip=spec.skip_unlabelled)
    order, groups = table.grouped(known, spec.group) if spec.group else (None, None)
    if order is not None:
        known = known.take(order)
    task, classes, target = table.target_of(known, target_name, spec.task, raw.classes, spec.positive)
    features = [name for name in known.column_names if name not in {target_name, spec.group, *spec.drop}]
    if not features:
        raise InputError(f"{spec.source} has no column besides the target, the group and the dropped ones.")
    columns, series = zip(*(table.feature(known, name, name in spec.categorical) for name in features), strict=True)
    frame = pd.DataFrame(dict(zip(features, series, strict=True)))
    return Data(raw.name, spec, frame, columns, target, target_name, task, classes, groups, raw.sha256)


class SplitSpec(BaseModel):
    """How rows are set apart: `stratified` by class, `grouped` whole groups, `random` otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    holdout_share: float = Field(default=0.2, gt=0, lt=0.9)
    validation_share: float = Field(default=0.2, gt=0, lt=0.9, description="Of the rows outside the holdout.")
    folds: int = Field(default=1, ge=1, description="Validation parts; 1: one part of the share above.")
