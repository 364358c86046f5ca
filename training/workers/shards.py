"""The shards of a Parquet data set, prepared for XGBoost by the workers or later by the gate.

A shard contains the features of the row groups of one worker. All shards together determine the categories of a column.
The target of all rows is known to each worker. The gate reloads the rows that the workers held out: it prepares one
shard after the other, and so needs no more memory than one worker.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.model.contract import ContractColumn
from training.data import preprocessing, row_hash, row_times, row_weights
from training.data.dataset import Data, DataSpec, Matrix, SplitSpec
from training.data.null_words import without_words
from training.data.parquet_table import column_blocks
from training.data.split import split
from training.errors import InputError
from training.workers import row_groups
from training.workers.group import ALONE, Group
from training.workers.labels import Labels, read_labels

# Returns examples of the cells of each worker by column, in the order of the workers, for a part of the own columns.
Examples = Callable[[pa.Table], Sequence[list[list[Any]]]]


@dataclass(frozen=True)
class Shard:
    """The rows of one worker.

    Args:
        known: The target of all rows.
        group: The worker.
        labelled: Mask of the worker's rows with a target, shape (rows,).
        rows: Numbers of these rows among all labelled rows, shape (labelled rows,).
    """

    known: Labels
    group: Group
    labelled: NDArray[np.bool_]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, known: Labels, group: Group) -> "Shard":
        """Return the rows of a worker."""
        own = row_groups.numbers(known.source, group)
        labelled = known.labelled[own]
        return cls(known, group, labelled, (np.cumsum(known.labelled) - 1)[own[labelled]])

    def blocks(self) -> Iterator[Sequence[str]]:
        """Yield the names of the features in parts that each need little memory."""
        return column_blocks(self.known.features, len(self.rows))

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Read these features as stored in the files."""
        table = row_groups.read(self.known.source, self.group, names)
        table = without_words(table, self.known.spec.null_words or (), names)
        return table if self.labelled.all() else table.filter(pa.array(self.labelled))

    def examples(self, table: pa.Table) -> list[list[Any]]:
        """Return the values by column from which the other workers derive the same description of the column."""
        return [_examples(table.column(name), name in self.known.spec.categorical) for name in table.column_names]


def all_rows(known: Labels, data: Data) -> Data:
    """Return the data of a shard with the target, key and time of all rows, which the split needs."""
    return dataclasses.replace(data, target=known.target, key_hashes=known.key_hashes, times=known.times)


def prepare(shard: Shard, examples: Examples, group: Group = ALONE) -> Data:
    """Return the prepared data of a shard, with the categories of all shards.

    The examples of all workers are appended to the rows of the shard, and removed after the preparation of the column.
    Each worker therefore describes its columns as if it had all rows.

    Args:
        shard: The shard of one worker.
        examples: Returns examples of each worker.
        group: The workers that prepare their shards at the same time.

    Raises:
        InputError: The data cannot be used, by any of these workers.
        TrainingError: The data cannot be read.
    """
    known = shard.known
    columns: list[ContractColumn] = []
    series: dict[str, pd.Series[Any]] = {}
    for names in shard.blocks():
        table = group.agreed(partial(shard.columns, names))
        given = examples(table)
        for column, values in group.agreed(partial(_prepared, shard, table, given)):
            columns.append(column)
            series[column.name] = values
    group.agreed(known.source.check_unchanged)
    return Data(
        known.source.place.path.rpartition("/")[2],
        known.spec,
        pd.DataFrame(series, copy=False),
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


def _prepared(
    shard: Shard, table: pa.Table, examples: Sequence[list[list[Any]]]
) -> list[tuple[ContractColumn, "pd.Series[Any]"]]:
    found = []
    for i, name in enumerate(table.column_names):
        kind = table.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        cells = table.column(name).cast(kind).combine_chunks()
        cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        below = pa.array([value for each in examples for value in each[i]], kind)
        both = pa.table({name: pa.concat_arrays([cells, below])})
        try:
            column, values = preprocessing.feature(both, name, name in shard.known.spec.categorical)
        except InputError as error:
            raise InputError(f"Rows of worker {shard.group.rank}: {error}") from None
        found.append((column, values.iloc[: table.num_rows]))
    return found


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
    row_groups.check_enough(known.source, Group(0, workers))
    all_shards = [Shard.of(known, Group(rank, workers)) for rank in range(workers)]
    examples = [_by_name(shard) for shard in all_shards]
    digests: list[str] = []
    frames, numbers = [], []
    for shard in all_shards:
        data = prepare(shard, lambda table: [[each[name] for name in table.column_names] for each in examples])
        if not digests:
            held = split(all_rows(known, data), split_spec).holdout
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


def _by_name(shard: Shard) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for names in shard.blocks():
        found |= dict(zip(names, shard.examples(shard.columns(names)), strict=True))
    return found


def _examples(column: pa.ChunkedArray, categorical: bool) -> list[Any]:
    """Return all distinct values of a categorical column, or one number and a null if there is one."""
    kind = column.type
    if not categorical and (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        some = column.drop_null().slice(0, 1).to_pylist()
        return [value if isinstance(value, int) else float(value) for value in some] + [None] * bool(column.null_count)
    return list(pc.unique(column).to_pylist())
