"""Rows of a request from an Arrow stream: columns of numbers and known categories become a matrix without a check per
cell, and all others take the full path of JSON, which reports every invalid cell.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import LISTED_ERRORS, CellError, InvalidInputError
from app.model.arrow.reader import ArrowColumn, read
from app.model.booster import Matrix
from app.model.columns import INTEGER_BITS, REALS, WIDE, Column
from app.model.rows import Rows
from app.model.signature import Signature

# pandas writes an index that is not a range as such a column. As in `to_json(orient="split")`, it is ignored.
_INDEX = re.compile(r"__index_level_[0-9]+__")
_TAKEN = dict.fromkeys((*REALS, *INTEGER_BITS), ("number",)) | {
    "boolean": ("boolean",),
    "string": ("string",),
    "datetime": ("datetime", "string"),
}
_MOST_UNKNOWN = 16  # columns in addition to those of the model, which an error names


def read_rows(content: bytes, signature: Signature, most: int) -> Rows:
    """Return the rows of an Arrow IPC stream.

    Args:
        content: The stream.
        signature: Signature of the model.
        most: Maximum number of rows.

    Raises:
        NotArrowError: The stream is damaged.
        InvalidInputError: The type of a column is not supported, or does not fit the model's column.
        TooLargeError: There are too many rows.
    """
    names = signature.names
    found = [
        each
        for each in read(content, most, len(names) + _MOST_UNKNOWN)
        if each.name in names or not _INDEX.fullmatch(each.name)
    ]
    if not found:
        raise InvalidInputError("The Arrow stream must have a column per column of the model.")
    given = {each.name: each for each in found}
    problems = [_misfit(column, given[column.name].kind) for column in signature.columns if column.name in given]
    if errors := [each for each in problems if each]:
        raise InvalidInputError("Types do not fit the model's columns.", errors[:LISTED_ERRORS], len(errors))
    count = len(found[0].values)
    payload = partial(_payload, found)
    if len(given) == len(found) and (narrow := _matrix(given, signature)) is not None:
        return Rows(count, lambda: narrow, payload, signature.defaults)
    unseen: list[str] = []

    def matrix() -> Any:
        body = payload()
        return signature.from_split(body["columns"], body["data"], unseen)

    return Rows(count, matrix, payload, signature.defaults, unseen)


def _payload(found: Sequence[ArrowColumn]) -> dict[str, Any]:
    """Return the rows as the body in split form."""
    rows = [list(row) for row in zip(*(each.cells() for each in found), strict=True)]
    return {"columns": [each.name for each in found], "data": rows}


def _misfit(column: Column, kind: str) -> CellError | None:
    """Return the error for the type of a column, or None if its values may fit."""
    if column.categories:
        taken: tuple[str, ...] = ("string",) if column.type == "string" else ("number",)
    elif column.type in REALS or column.type in INTEGER_BITS:
        taken = ("number",)
    else:
        taken = {"boolean": ("boolean",), "string": ("string",), "datetime": ("datetime", "string")}.get(
            column.type, ()
        )
    if kind in taken or (kind == "null" and taken):
        return None
    if not taken:
        problem = f"is a {column.type}, which Arrow streams do not support here; send JSON"
    else:
        problem = f"is a {column.type}, so its Arrow type must be a {' or '.join(taken)}, not a {kind}"
    return CellError(None, column.name[:200], problem)


def _matrix(given: Mapping[str, ArrowColumn], signature: Signature) -> Matrix | None:
    """Return the matrix if every value certainly fits its column, otherwise None."""
    if type(signature) is not Signature or given.keys() != set(signature.names):
        return None
    numbers = [_numbers(column, given[column.name]) for column in signature.columns]
    known = [each for each in numbers if each is not None]
    return signature.from_numbers(np.column_stack(known)) if len(known) == len(numbers) else None


def _numbers(column: Column, found: ArrowColumn) -> NDArray[np.float64] | None:
    """Return the numbers of a column, with codes of categories and NaN for null; None if each cell needs a check."""
    if column.dtype not in WIDE or column.shape or column.parts:
        return None
    if column.categories:
        codes = {each: code for code, each in enumerate(column.categories)} | {None: np.nan}
        cells = found.cells()
        if not (column.nullable or None not in cells) or not codes.keys() >= set(cells):
            return None
        return np.array([codes[value] for value in cells], np.float64)
    if not isinstance(found.values, np.ndarray):
        return None
    numbers = found.values.astype(np.float64)
    if found.present is not None:
        numbers[~found.present] = np.nan
    nulls = found.present is not None or (found.values.dtype.kind == "f" and bool(np.isnan(numbers).any()))
    return None if nulls and not (column.nullable and column.type in REALS) else numbers
