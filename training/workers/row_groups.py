"""The row groups of one worker, so that no worker holds the whole data set.

Row group i, counted through all files in the order of their names, belongs to worker i modulo the number of workers.
The rule is recorded with the model, because a different partition of the rows gives a different model.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.parquet_table import ParquetTable
from training.errors import InputError
from training.workers.group import Group

RULE = "row-group-modulo"


def check_enough(source: ParquetTable, group: Group) -> None:
    """Refuse data of which a worker would have no rows.

    Raises:
        InputError: The data have fewer row groups than there are workers, or all row groups of a worker are empty.
    """
    if source.groups < group.size:
        raise InputError(
            f"{source.place.uri} has {source.groups} row groups for {group.size} workers: write it with smaller row "
            "groups, or train with fewer workers."
        )
    for rank in range(group.size):
        if not sum(source.group_rows[rank :: group.size]):
            raise InputError(
                f"{source.place.uri}: the row groups of worker {rank} have no rows: write the files without empty row "
                "groups, or train with fewer workers."
            )


def numbers(source: ParquetTable, group: Group) -> NDArray[np.int64]:
    """Return the numbers of the rows of the worker in the whole data set, shape (rows,), ascending."""
    starts = np.cumsum([0, *source.group_rows])
    own = range(group.rank, source.groups, group.size)
    return np.concatenate([np.arange(starts[i], starts[i + 1], dtype=np.int64) for i in own])


def read(source: ParquetTable, group: Group, names: Sequence[str]) -> pa.Table:
    """Return these columns of the rows of the worker.

    Raises:
        InputError: A row group is damaged, or a file has changed.
        TrainingError: The data cannot be read.
    """
    return source.read(names, lambda number: number % group.size == group.rank)
