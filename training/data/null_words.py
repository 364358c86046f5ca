"""Words that stand for a missing value. Training records its list, and every reader of the model's data uses it."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

NULL_WORDS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")


def without_words(table: pa.Table, words: Collection[str], columns: Collection[str]) -> pa.Table:
    """Return the table with null in place of the words in these columns, if they are text.

    A word in a Parquet file, where text has a type, therefore means the same as in a CSV file.
    """
    for i, name in enumerate(table.column_names):
        cells = table.column(i)
        if words and name in columns and (cells := _nulled(cells, words)) is not None:
            table = table.set_column(i, name, cells)
    return table


def _nulled(cells: pa.ChunkedArray, words: Collection[str]) -> pa.ChunkedArray | None:
    kind = cells.type
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text)):
        return None
    values = cells.cast(text) if text is not kind else cells
    found = pc.is_in(values, value_set=pa.array(list(words), text))
    return pc.if_else(found, pa.scalar(None, text), values) if pc.any(found).as_py() else None
