"""Read the part of a Parquet data set that is one worker's, so that no worker holds the whole.

The rule is recorded with the model, because another partition of the rows makes another model: row group i, counted
through all files in the order of their names, is of worker i modulo their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from training.errors import InputError
from training.group import Group
from training.storage import Place, failure
from training.tables import PARQUET

RULE = "row-group-modulo"


@dataclass(frozen=True)
class Shard:
    """A worker's rows: the table and their numbers in the whole data set, shape (rows,)."""

    table: pa.Table
    rows: NDArray[np.int64]


def columns(place: Place) -> list[str]:
    """Return the names of the columns, in the first file's order.

    Raises:
        InputError: it is no Parquet.
        TrainingError: it cannot be read.
    """
    with place.filesystem.open_input_file(_files(place)[0]) as source:
        return list(parquet.ParquetFile(source).schema_arrow.names)


def read(place: Place, group: Group, names: Sequence[str] | None = None) -> Shard:
    """Return the worker's rows; of all columns when `names` is None.

    Raises:
        InputError: the data has fewer row groups than there are workers, or is no Parquet.
        TrainingError: it cannot be read.
    """
    tables, numbers = [], []
    seen = start = 0
    for path in _files(place):
        try:
            with place.filesystem.open_input_file(path) as source:
                reader = parquet.ParquetFile(source)
                for i in range(reader.num_row_groups):
                    count = reader.metadata.row_group(i).num_rows
                    if seen % group.size == group.rank:
                        tables.append(reader.read_row_group(i, columns=None if names is None else list(names)))
                        numbers.append(np.arange(start, start + count, dtype=np.int64))
                    seen, start = seen + 1, start + count
        except OSError as error:
            raise failure(path, "read", error) from None
        except pa.ArrowInvalid as error:
            raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if seen < group.size:
        raise InputError(
            f"{place.uri} has {seen} row groups for {group.size} workers: write it with smaller row groups, or train "
            "with fewer workers."
        )
    return Shard(pa.concat_tables(tables), np.concatenate(numbers))


def _files(place: Place) -> list[str]:
    files = place.files(*PARQUET)
    if not files or not all(each.path.lower().endswith(PARQUET) for each in files):
        raise InputError(f"{place.uri} is no Parquet, of which each worker could read its own part.")
    return [str(each.path) for each in files]
