"""Turn Arrow columns into the float32 matrix that a model's columns ask for, by the rules of the service.

A column at a time, where the service reads a row at a time; what is right and what is wrong is said by the same
`Column.problem`, so that a data set and a request are judged alike.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.booster import Matrix
from app.columns import FLOAT32_MAX, INTEGER_BITS, Column

Mask = NDArray[np.bool_]
_EXACT = {32: 2.0**31, 64: 2.0**63}


@dataclass(frozen=True)
class Bad:
    """A cell that does not fit its column; `row` counts from 0 within the table."""

    row: int
    column: str
    problem: str


def encode(table: pa.Table, columns: Sequence[Column], *, text: bool) -> tuple[Matrix, Mask, Iterator[Bad]]:
    """Return the rows as the booster takes them, which of them are bad, and why, in the order of the columns.

    Args:
        table: holds each column that is required.
        text: the cells are text, as a CSV file has them, and are numbers where they look like numbers.
    """
    matrix = np.full((table.num_rows, len(columns)), np.nan, dtype=np.float32)
    bad = np.zeros(table.num_rows, dtype=np.bool_)
    places: list[tuple[Column, pa.Array, Mask]] = []
    for i, column in enumerate(columns):
        if column.name not in table.column_names:
            continue  # it is not required: missing in every row
        cells = _joined(table.column(column.name))
        values, wrong = _from_text(cells, column) if text and pa.types.is_string(cells.type) else _values(cells, column)
        matrix[:, i] = values
        if wrong.any():
            bad |= wrong
            places.append((column, cells, wrong))
    return matrix, bad, _reasons(places, text)


def _reasons(places: list[tuple[Column, pa.Array, Mask]], text: bool) -> Iterator[Bad]:
    for column, cells, wrong in places:
        for row in np.flatnonzero(wrong).tolist():
            value = cells[row].as_py()
            if text and isinstance(value, str):
                value = _parsed(value, column)
            yield Bad(row, column.name, column.problem(value) or "cannot be read")


def _values(cells: pa.Array, column: Column) -> tuple[NDArray[Any], Mask]:
    """Return a column's numbers and which of its cells do not fit."""
    if column.categories:
        return _codes(cells, column)
    kind = cells.type
    fits = pa.types.is_boolean(kind) if column.type == "boolean" else _is_number(kind)
    if not fits and not pa.types.is_null(kind):
        return np.full(len(cells), np.nan, dtype=np.float32), np.ones(len(cells), dtype=np.bool_)
    wide = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    missing = np.isnan(wide)
    if column.type == "boolean":
        wrong = np.zeros(len(wide), dtype=np.bool_)
    elif bits := INTEGER_BITS.get(column.type):
        with np.errstate(invalid="ignore"):
            wrong = (wide != np.trunc(wide)) | (wide < -_EXACT[bits]) | (wide >= _EXACT[bits])
        wrong &= ~missing
    else:
        wrong = np.abs(wide) > FLOAT32_MAX
    if not column.nullable:
        wrong = wrong | missing
    with np.errstate(over="ignore"):
        return wide.astype(np.float32), wrong


def _codes(cells: pa.Array, column: Column) -> tuple[Matrix, Mask]:
    """Return the booster's numbers of a categorical column, looked up once for each value that there is."""
    encoded = cells if pa.types.is_dictionary(cells.type) else pc.dictionary_encode(cells)
    known = [column.codes.get((type(value), value), -1.0) for value in encoded.dictionary.to_pylist()]
    indices = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    values = np.array([*known, np.nan], dtype=np.float32)[indices]
    return values, values == -1


def _from_text(cells: pa.Array, column: Column) -> tuple[Matrix, Mask]:
    """Return the same for cells of text, one by one."""
    values = np.full(len(cells), np.nan, dtype=np.float32)
    wrong = np.zeros(len(cells), dtype=np.bool_)
    for row, value in enumerate(cells.to_pylist()):
        parsed = None if value is None else _parsed(value, column)
        if parsed is not None and parsed != parsed and column.nullable:
            continue
        if column.problem(parsed):
            wrong[row] = True
        elif parsed is not None:
            values[row] = column.codes[type(parsed), parsed] if column.categories else np.float32(float(parsed))
    return values, wrong


def _parsed(value: str, column: Column) -> Any:
    """Return a cell's text as the JSON value that it would be in a request; the text itself when it is none."""
    if column.type == "boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(value.strip().lower(), value)
    if column.type == "string":
        return value
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value)
    return value


def _joined(cells: pa.ChunkedArray) -> pa.Array:
    joined = cells.combine_chunks()
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
