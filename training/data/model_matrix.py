"""The float32 matrix of a model's columns, built from Arrow columns by the rules of the service.

The service reads a row at a time, this module a column at a time. Both call `Column.problem`, so that a data set and a
request are validated by the same rules.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.model.booster import Matrix
from app.model.columns import FLOAT32_MAX, INTEGER_BITS, Column
from app.model.dates import parts_of
from training.data.date_columns import moments_of
from training.data.null_words import without_words

Mask = NDArray[np.bool_]
_EXACT = {32: 2.0**31, 64: 2.0**63}


@dataclass(frozen=True)
class Bad:
    """A cell that is not valid for its column. `row` is counted from 0 within the table."""

    row: int
    column: str
    problem: str


def encode(
    table: pa.Table,
    columns: Sequence[Column],
    *,
    text: bool,
    null_words: Sequence[str] = (),
    unseen: Counter[str] | None = None,
) -> tuple[Matrix, Mask, Iterator[Bad]]:
    """Return the matrix of the rows, a mask of the bad rows, and their cells in the order of the columns.

    Args:
        table: Table with all required columns.
        columns: Columns of the model.
        text: The cells are the text of a CSV file, and become numbers if they look like numbers.
        null_words: Words that stand for a missing value.
        unseen: Receives the number of unknown categories that are taken as missing, by column.
    """
    unseen = Counter() if unseen is None else unseen
    table = without_words(table, null_words, {column.name for column in columns})
    widths = [len(column.features) for column in columns]
    firsts = np.cumsum([0, *widths])
    matrix = np.full((table.num_rows, sum(widths)), np.nan, dtype=np.float32)
    bad = np.zeros(table.num_rows, dtype=np.bool_)
    places: list[tuple[Column, pa.Array, Mask]] = []
    for i, column in enumerate(columns):
        if column.name not in table.column_names:
            continue  # optional, therefore missing in every row
        cells = one_array(table.column(column.name))
        as_text = text and pa.types.is_string(cells.type)
        if column.parts:
            moments, wrong = moments_of(cells)
            values = parts_of(moments, column.parts)
        else:
            values, wrong = (_from_text if as_text else _values)(cells, column, unseen)
            values = values[:, None]
        matrix[:, firsts[i] : firsts[i + 1]] = values
        if wrong.any():
            bad |= wrong
            places.append((column, cells, wrong))
    return matrix, bad, _reasons(places, text)


def _reasons(places: list[tuple[Column, pa.Array, Mask]], text: bool) -> Iterator[Bad]:
    for column, cells, wrong in places:
        for row in np.flatnonzero(wrong).tolist():
            value = cells[row].as_py()
            if text and isinstance(value, str):
                value = value_of(value, column)
            if isinstance(value, date):  # outside the years that a request may contain
                value = value.isoformat()
            yield Bad(row, column.name, column.problem(value) or "cannot be read")


def _values(cells: pa.Array, column: Column, unseen: Counter[str]) -> tuple[NDArray[Any], Mask]:
    """Return the numbers of a column, and a mask of its bad cells."""
    if column.categories:
        return _codes(cells, column, unseen)
    kind = cells.type
    fits = pa.types.is_boolean(kind) if column.type == "boolean" else is_number(kind)
    if not fits and not pa.types.is_null(kind):
        return np.full(len(cells), np.nan, dtype=np.float32), np.ones(len(cells), dtype=np.bool_)
    wide = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    missing = np.isnan(wide)
    if column.type == "boolean":
        wrong = np.zeros(len(wide), dtype=np.bool_)
    elif (bits := INTEGER_BITS.get(column.type)) and not (bits == 64 and pa.types.is_signed_integer(kind)):
        with np.errstate(invalid="ignore"):
            wrong = (wide != np.trunc(wide)) | (wide < -_EXACT[bits]) | (wide >= _EXACT[bits])
        wrong &= ~missing
    else:
        wrong = np.abs(wide) > FLOAT32_MAX
    if not column.nullable:
        wrong = wrong | missing
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    if column.type in INTEGER_BITS and pa.types.is_signed_integer(kind):
        # Directly, because a large integer would be rounded twice through float64.
        whole = pc.fill_null(cells.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        narrow[~missing] = whole.astype(np.float32)[~missing]
    return narrow, wrong


def _codes(cells: pa.Array, column: Column, unseen: Counter[str]) -> tuple[Matrix, Mask]:
    """Return the codes of a categorical column, looked up once per distinct value, and a mask of its bad cells."""
    encoded = cells if pa.types.is_dictionary(cells.type) else pc.dictionary_encode(cells)
    distinct = encoded.dictionary.to_pylist()
    known = [
        column.codes.get((type(value), value), np.nan if not column.problem(value) else -1.0) for value in distinct
    ]
    indices = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    values = np.array([*known, np.nan], dtype=np.float32)[indices]
    if strangers := int((np.isnan(values) & (indices < len(known))).sum()):
        unseen[column.name] += strangers
    return values, values == -1


def _from_text(cells: pa.Array, column: Column, unseen: Counter[str]) -> tuple[Matrix, Mask]:
    """Return the numbers of a column of text, cell by cell, and a mask of its bad cells."""
    values = np.full(len(cells), np.nan, dtype=np.float32)
    wrong = np.zeros(len(cells), dtype=np.bool_)
    for row, value in enumerate(cells.to_pylist()):
        parsed = None if value is None else value_of(value, column)
        if parsed is not None and parsed != parsed and column.nullable:
            continue
        if column.problem(parsed):
            wrong[row] = True
        elif parsed is not None and column.categories:
            if (code := column.codes.get((type(parsed), parsed))) is None:
                unseen[column.name] += 1
            else:
                values[row] = code
        elif parsed is not None:
            exact = np.int64(parsed) if column.type in INTEGER_BITS else np.float64(parsed)
            values[row] = exact.astype(np.float32)
    return values, wrong


def value_of(text: str, column: Column) -> Any:
    """Return the JSON value that the text of a cell would be in a request, or the text itself."""
    if column.type == "boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower(), text)
    if column.type in ("string", "datetime", "binary"):
        return text
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def one_array(cells: pa.ChunkedArray) -> pa.Array:
    joined = cells.combine_chunks()
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
