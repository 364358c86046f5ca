"""Read the part of a Parquet data set that is one worker's, so that no worker holds the whole.

The rule is recorded with the model, because another partition of the rows makes another model: row group i, counted
through all files in the order of their names, is of worker i modulo their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.errors import InputError
from training.group import Group
from training.parquets import Parquets

RULE = "row-group-modulo"


@dataclass(frozen=True)
class Shard:
    """A worker's rows: the table and their numbers in the whole data set, shape (rows,)."""

    table: pa.Table
    rows: NDArray[np.int64]


def read(source: Parquets, group: Group, names: Sequence[str]) -> Shard:
    """Return these columns of the worker's rows.

    Raises:
        InputError: the data has fewer row groups than there are workers.
        TrainingError: it cannot be read.
    """
    if source.groups < group.size:
        raise InputError(
            f"{source.place.uri} has {source.groups} row groups for {group.size} workers: write it with smaller row "
            "groups, or train with fewer workers."
        )
    starts, tables = zip(*source.tables(names, lambda number: number % group.size == group.rank), strict=True)
    rows = [np.arange(start, start + len(each), dtype=np.int64) for start, each in zip(starts, tables, strict=True)]
    return Shard(pa.concat_tables(tables), np.concatenate(rows))
