"""The cells of a model of any flavor, built from Arrow columns by the rules of the service.

A cell has the value that it would have in a request. `Column.problem` validates it, except in columns of numbers, which
are validated as a whole.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from app.model.columns import NESTED, REALS, Column
from app.model.signature import Cells
from training.data.model_matrix import Bad, Mask, is_number, one_array, value_of
from training.data.null_words import without_words


def cells_of(
    table: pa.Table, columns: Sequence[Column], *, text: bool, null_words: Sequence[str] = ()
) -> tuple[Cells, Mask, Iterator[Bad]]:
    """Return the cells of the rows, a mask of the bad rows, and their cells in the order of the columns.

    Args:
        table: Table with all required columns.
        columns: Columns of the model.
        text: The cells are the text of a CSV file, and become numbers if they look like numbers.
        null_words: Words that stand for a missing value.
    """
    table = without_words(table, null_words, {column.name for column in columns})
    cells = np.full((table.num_rows, len(columns)), None, dtype=object)
    bad = np.zeros(table.num_rows, dtype=np.bool_)
    found: list[Bad] = []
    for place, column in enumerate(columns):
        if column.name not in table.column_names:
            continue  # optional, therefore missing in every row
        given = one_array(table.column(column.name))
        if column.type in REALS and not column.shape and is_number(given.type):
            numbers = given.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            missing = np.isnan(numbers)
            wrong = (np.abs(numbers) > column.largest) | (missing if not column.nullable else False)
            values = numbers.astype(object)
            values[missing] = None
            found += [Bad(row, column.name, column.problem(values[row])) for row in np.flatnonzero(wrong).tolist()]
        else:
            values = np.full(len(given), None, dtype=object)
            converted = _converter(given.type, column, text=text)
            wrong = np.zeros(len(given), dtype=np.bool_)
            for row, value in enumerate(given.to_pylist()):
                cell = None if value is None else converted(value)
                values[row] = None if cell != cell else cell  # NaN
                if problem := column.problem(values[row]):
                    wrong[row] = True
                    found.append(Bad(row, column.name, problem))
        cells[:, place] = values
        bad |= wrong
    return cells, bad, iter(found)


def _converter(kind: pa.DataType, column: Column, *, text: bool) -> Callable[[Any], Any]:
    """Return the function that makes the JSON value of a request from a cell."""
    if pa.types.is_map(kind):
        return lambda pairs: _json(dict(pairs))
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if textual and (column.shape or column.type in NESTED):
        return _from_json
    if textual and text:
        return lambda value: value_of(value, column)
    return _json


def _from_json(text: str) -> Any:
    with suppress(ValueError):
        return json.loads(text)
    return text


def _json(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_json(each) for each in value]
    return {name: _json(each) for name, each in value.items()} if isinstance(value, dict) else value
