"""Prepare one worker's share of the training data, and bring together what the first worker records of the whole.

Each worker holds the features of its own row groups, and of all rows only the target. Of the others it learns which
categories their columns have and which rows are held out, so that all split the same rows apart as one worker alone
would. The first worker also gets the features of the held-out rows: it measures, and MLflow is told once.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.fs import FileType

from training import shards, table
from training.data import Data, DataSpec, SplitSpec
from training.errors import InputError
from training.group import Group
from training.split import Rows, Split, split
from training.storage import place


@dataclass(frozen=True)
class SharedData(Data):
    """Data of one worker that stand for the whole: the digest and the number of rows are those of all workers."""

    digest: str = ""
    rows_in_all: int = 0
    workers: int = 1

    @property
    def sha256(self) -> str:
        """Digest of all workers' digests, in their order."""
        return self.digest

    @property
    def rows(self) -> int:
        """Rows of all workers."""
        return self.rows_in_all

    @property
    def shared(self) -> tuple[int, str]:
        """How many workers there are, and which rows each has."""
        return self.workers, shards.RULE


@dataclass(frozen=True)
class SharedSplit(Split):
    """Row numbers within one worker's data; the digest is of the numbers in the whole."""

    digest: str = ""

    @property
    def holdout_sha256(self) -> str:
        """Digest of the held-out rows' numbers in the whole data set, the same that one worker alone would record."""
        return self.digest


def load(spec: DataSpec, split_spec: SplitSpec, group: Group) -> tuple[SharedData, SharedSplit]:
    """Read and prepare this worker's rows.

    Raises:
        InputError: the data cannot be used by several workers, or at all.
        TrainingError: it cannot be read now.
    """
    if not spec.target:
        raise InputError("--target (TRAINING_TARGET): name the column to predict; several workers need Parquet.")
    if spec.group:
        raise InputError("--group (TRAINING_GROUP): several workers would tear groups apart; train with one.")
    source = place(spec.source)
    if source.filesystem.get_file_info(source.path).type != FileType.File:
        raise InputError(f"{spec.source} is no file; several workers share the row groups of one Parquet file.")
    names = shards.columns(source)
    for option, given in {"target": (spec.target,), "drop": spec.drop, "categorical": spec.categorical}.items():
        table.present(pa.table({name: [] for name in names}), given, f"--{option} (TRAINING_{option.upper()})")
    everyones = shards.read(source, Group(), [spec.target]).table  # one column of all rows
    labelled = pc.is_valid(everyones.column(spec.target)).to_numpy()
    known = table.labelled(everyones, spec.target, skip=spec.skip_unlabelled)
    task, classes, target = table.target_of(known, spec.target, spec.task, (), spec.positive)
    shard = shards.read(source, group, [name for name in names if name not in {spec.target, *spec.drop}])
    kept = labelled[shard.rows]
    number = np.cumsum(labelled) - 1  # of a row among those that have a target
    rows, own = number[shard.rows[kept]], shard.table.filter(pa.array(kept))
    try:
        columns, frame = _features(own, spec, group)
    except InputError as error:
        raise InputError(f"Of worker {group.rank}'s rows: {error}") from None
    data = SharedData(
        source.path.rpartition("/")[2], spec, frame, columns, target[rows], spec.target, task, classes, None, ""
    )
    digests = _everyones(group, Data.sha256.fget(data))  # type: ignore[attr-defined]
    digest = hashlib.sha256(json.dumps([shards.RULE, digests]).encode()).hexdigest()
    data = dataclasses.replace(data, digest=digest, rows_in_all=len(target), workers=group.size)
    whole = split(dataclasses.replace(data, target=target), split_spec)
    mine = SharedSplit(
        whole.rule,
        _within(rows, whole.rest),
        _within(rows, whole.holdout),
        tuple((_within(rows, a), _within(rows, b)) for a, b in whole.folds),
        whole.holdout_sha256,
    )
    return data, mine


def gathered(data: SharedData, parts: SharedSplit, group: Group) -> tuple[SharedData, SharedSplit]:
    """Return what the first worker records: its own rows to train on, and all that are held out."""
    held = group.joined(data.features[parts.holdout])
    target = group.joined(data.target[parts.holdout])
    frame = pd.DataFrame({name: _column(held[:, i], data.frame[name]) for i, name in enumerate(data.frame.columns)})
    whole = dataclasses.replace(
        data,
        frame=pd.concat([data.frame.iloc[parts.rest], frame], ignore_index=True),
        target=np.concatenate([data.target[parts.rest], target]),
        raw_sha256=_raw_sha256(data.spec.source) if group.first else "",
    )
    own = len(parts.rest)
    holdout = np.arange(own, own + len(held), dtype=np.int64)
    return whole, dataclasses.replace(parts, rest=np.arange(own, dtype=np.int64), holdout=holdout, folds=())


def _features(own: pa.Table, spec: DataSpec, group: Group) -> tuple[tuple[Any, ...], pd.DataFrame]:
    """Return the features with the categories of all workers.

    What the others have is put below our own rows as examples, and taken away again when the column is prepared: so
    each worker describes its columns as one that had all rows would.
    """
    examples = [_examples(own.column(name), name in spec.categorical) for name in own.column_names]
    others = _everyones(group, examples)
    columns, series = [], {}
    for i, name in enumerate(own.column_names):
        kind = own.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        cells = own.column(name).cast(kind).combine_chunks()
        cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        below = pa.array([value for each in others for value in each[i]], kind)
        both = pa.table({name: pa.concat_arrays([cells, below])})
        column, values = table.feature(both, name, name in spec.categorical)
        columns.append(column)
        series[name] = values.iloc[: own.num_rows]
    return tuple(columns), pd.DataFrame(series)


def _examples(column: pa.ChunkedArray, categorical: bool) -> list[Any]:
    """Return each different value of categories; of numbers one, and a null when there is one."""
    kind = column.type
    if not categorical and (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        some = column.drop_null().slice(0, 1).to_pylist()
        return [value if isinstance(value, int) else float(value) for value in some] + [None] * bool(column.null_count)
    return list(pc.unique(column).to_pylist())


def _everyones(group: Group, mine: Any) -> list[Any]:
    """Return what each worker has, in their order."""
    text = (json.dumps(mine) + "\n").encode()
    return [json.loads(line) for line in group.joined(np.frombuffer(text, dtype=np.uint8)).tobytes().splitlines()]


def _raw_sha256(source: str) -> str:
    """Return the digest of the file's bytes, read piece by piece."""
    digest, file = hashlib.sha256(), place(source)
    with file.filesystem.open_input_stream(file.path) as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _within(rows: NDArray[np.int64], wanted: Rows) -> Rows:
    """Return the places of the wanted rows among ours."""
    return np.flatnonzero(np.isin(rows, wanted)).astype(np.int64)


def _column(values: NDArray[np.float32], like: "pd.Series[Any]") -> Any:
    if isinstance(like.dtype, pd.CategoricalDtype):
        codes = np.where(np.isnan(values), -1, values).astype(np.int64)
        return pd.Categorical.from_codes(codes, dtype=like.dtype)
    return values
