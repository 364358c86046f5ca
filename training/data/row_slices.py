"""Groups of rows, such as regions, in which metrics are computed separately."""

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from training.errors import InputError

OPTION = "--group-metrics (TRAINING_GROUP_METRICS)"
MISSING = "missing"  # name of the group of the rows without a value
MOST_VALUES = 50  # per column, because each is a metric in MLflow


def slices_of(table: pa.Table, names: Sequence[str]) -> pd.DataFrame:
    """Return the group of each row by column, shape (rows, columns), as text.

    Raises:
        InputError: A column has too many different values, or values that are not text, whole numbers or booleans.
    """
    found = {}
    for name in names:
        column = table.column(name).combine_chunks()
        column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        kind = column.type
        if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise InputError(
                f"{OPTION}: column {name} has the type {kind}; use a column of text, whole numbers or booleans."
            )
        if (count := pc.count_distinct(column).as_py()) > MOST_VALUES:
            raise InputError(
                f"{OPTION}: column {name} has {count} different values, and at most {MOST_VALUES} are possible; add a "
                "column with fewer groups."
            )
        found[name] = pc.fill_null(column.cast(pa.string()), MISSING).to_numpy(zero_copy_only=False)
    return pd.DataFrame(found)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
