"""The row groups of one worker, so that no worker holds the whole data set.

Row group i, counted through all files in the order of their names, belongs to worker i modulo the number of workers.
The rule is recorded with the model, because a different partition of the rows gives a different model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.parquet_table import ParquetTable
from training.errors import InputError
from training.workers.group import Group

RULE = "row-group-modulo"


@dataclass(frozen=True)
class RowGroups:
    """The rows of one worker, and their numbers in the whole data set, shape (rows,)."""

    table: pa.Table
    rows: NDArray[np.int64]


def read(source: ParquetTable, group: Group, names: Sequence[str]) -> RowGroups:
    """Return these columns of the rows of the worker.

    Raises:
        InputError: The data have fewer row groups than there are workers.
        TrainingError: The data cannot be read.
    """
    if source.groups < group.size:
        raise InputError(
            f"{source.place.uri} has {source.groups} row groups for {group.size} workers: write it with smaller row "
            "groups, or train with fewer workers."
        )
    starts, tables = zip(*source.tables(names, lambda number: number % group.size == group.rank), strict=True)
    rows = [np.arange(start, start + len(each), dtype=np.int64) for start, each in zip(starts, tables, strict=True)]
    return RowGroups(pa.concat_tables(tables), np.concatenate(rows))
