"""One worker's share of a Parquet data set as XGBoost sees it, the same whether the workers make it or one alone does.

A share holds the features of its own row groups, and of all rows only the target. Which categories a column has is
known from all shares. The gate needs what the workers have held out, long after they are gone: it makes one share after
the other, so it holds as much at once as one of them did.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contract import Task
from training import shards, table
from training.data import Data, DataSpec, Matrix, SplitSpec
from training.errors import InputError
from training.group import Group
from training.names import present
from training.parquets import Parquets
from training.source import BUILT_IN
from training.split import split
from training.storage import place


@dataclass(frozen=True)
class Share:
    """Features as they are in the file, and the numbers of their rows among all that have a target, shape (rows,)."""

    rank: int
    table: pa.Table
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Whole:
    """What is known of all rows: `labelled` (rows,) says which have a target; `target` (labelled rows,) holds it."""

    source: Parquets
    spec: DataSpec
    features: tuple[str, ...]
    labelled: NDArray[np.bool_]
    task: Task
    classes: tuple[str, ...]
    target: Matrix

    def share(self, group: Group) -> Share:
        """Read the features of one worker's rows."""
        shard = shards.read(self.source, group, self.features)
        kept = self.labelled[shard.rows]
        number = np.cumsum(self.labelled) - 1
        return Share(group.rank, shard.table.filter(pa.array(kept)), number[shard.rows[kept]])

    def examples(self, share: Share) -> list[list[Any]]:
        """Return, by column, what the other workers have to know of it to describe it as we do."""
        table_ = share.table
        return [_examples(table_.column(name), name in self.spec.categorical) for name in table_.column_names]


def whole(spec: DataSpec) -> Whole:
    """Read the target of all rows.

    Raises:
        InputError: the data cannot be used by several workers, or at all.
        TrainingError: it cannot be read now.
    """
    if not spec.target:
        raise InputError("--target (TRAINING_TARGET): name the column to predict; several workers need Parquet.")
    if spec.group:
        raise InputError("--group (TRAINING_GROUP): several workers would tear groups apart; train with one.")
    if spec.source in BUILT_IN:
        raise InputError(f"{spec.source} is built in; several workers share the row groups of Parquet files.")
    source = Parquets(place(spec.source))
    for option, given in {"target": (spec.target,), "drop": spec.drop, "categorical": spec.categorical}.items():
        present(source.schema.names, given, f"--{option} (TRAINING_{option.upper()})")
    raw = shards.read(source, Group(), [spec.target]).table
    labelled = ~pc.is_null(raw.column(spec.target), nan_is_null=True).to_numpy()
    known = table.labelled(raw, spec.target, skip=spec.skip_unlabelled)
    task, classes, target = table.target_of(known, spec.target, spec.task, (), spec.positive)
    features = tuple(name for name in source.schema.names if name not in {spec.target, *spec.drop})
    return Whole(source, spec, features, labelled, task, classes, target)


def prepared(known: Whole, share: Share, examples: Sequence[list[list[Any]]]) -> Data:
    """Return a share with the categories of all.

    What the others have is put below our own rows as examples, and taken away again when the column is prepared: so
    each worker describes its columns as one that had all rows would.

    Args:
        known: what is known of all rows.
        share: of one worker.
        examples: of each worker, in their order.
    """
    columns, series = [], {}
    for i, name in enumerate(share.table.column_names):
        kind = share.table.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        cells = share.table.column(name).cast(kind).combine_chunks()
        cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
        below = pa.array([value for each in examples for value in each[i]], kind)
        both = pa.table({name: pa.concat_arrays([cells, below])})
        try:
            column, values = table.feature(both, name, name in known.spec.categorical)
        except InputError as error:
            raise InputError(f"Of worker {share.rank}'s rows: {error}") from None
        columns.append(column)
        series[name] = values.iloc[: share.table.num_rows]
    return Data(
        known.source.place.path.rpartition("/")[2],
        known.spec,
        pd.DataFrame(series),
        tuple(columns),
        known.target[share.rows],
        known.spec.target,
        known.task,
        known.classes,
        None,
        "",
    )


def digest(digests: Sequence[str]) -> str:
    """Return the digest of the whole: of all workers' digests, in their order."""
    return hashlib.sha256(json.dumps([shards.RULE, list(digests)]).encode()).hexdigest()


def held_out(spec: DataSpec, split_spec: SplitSpec, workers: int) -> tuple[pd.DataFrame, Matrix, str]:
    """Return the rows that so many workers hold out, what is true of each, and the digest of the whole.

    Raises:
        InputError: the data cannot be used any more.
        TrainingError: it cannot be read now.
    """
    known = whole(spec)
    groups = [Group(rank, workers) for rank in range(workers)]
    examples = [known.examples(known.share(group)) for group in groups]
    digests: list[str] = []
    frames, numbers = [], []
    for group in groups:
        share = known.share(group)
        data = prepared(known, share, examples)
        if not digests:
            held = split(dataclasses.replace(data, target=known.target), split_spec).holdout
        mine = np.isin(share.rows, held)
        digests.append(data.sha256)
        frames.append(data.frame[mine])
        numbers.append(share.rows[mine])
    order = np.argsort(np.concatenate(numbers))
    return pd.concat(frames, ignore_index=True).iloc[order], known.target[held], digest(digests)


def _examples(column: pa.ChunkedArray, categorical: bool) -> list[Any]:
    """Return each different value of categories; of numbers one, and a null when there is one."""
    kind = column.type
    if not categorical and (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        some = column.drop_null().slice(0, 1).to_pylist()
        return [value if isinstance(value, int) else float(value) for value in some] + [None] * bool(column.null_count)
    return list(pc.unique(column).to_pylist())
