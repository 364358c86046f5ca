"""Inputs of pyfunc models: data frames and tensors, made from validated JSON values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError
from app.model.columns import INTEGER_BITS, REALS, Column
from app.model.input_columns import UNNAMED
from app.model.json_values import moment, octets
from app.model.signature import Cells

Cell = Any  # input of a pyfunc model, for which MLflow has no type

_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


def frame_of(rows: Cells, columns: Sequence[Column]) -> Any:
    """Return a data frame with these columns, in the types of MLflow's signature.

    An optional column is omitted if no row has a value.

    Args:
        rows: Validated values, shape (rows, columns).
        columns: Columns of the signature.
    """
    import pandas as pd

    found = {
        column.name: pd.Series(_series(rows[:, place], column))
        for place, column in enumerate(columns)
        if column.required or any(value is not None for value in rows[:, place])
    }
    return pd.DataFrame(found, index=range(len(rows)))


def tensors_of(rows: Cells, columns: Sequence[Column], *, one: bool) -> Any:
    """Return the tensors by name, or the only unnamed tensor, each of shape (rows, …).

    Raises:
        InvalidInputError: The rows of a tensor differ in length.
    """
    if one and not columns[0].shape and columns[0].name != UNNAMED:  # a matrix, which has one column per feature here
        return np.array(rows.tolist(), dtype=_dtype(columns[0]))
    found = {}
    for place, column in enumerate(columns):
        try:
            found[column.name] = np.array(list(rows[:, place]), dtype=_dtype(column))
        except ValueError:
            raise InvalidInputError(
                f"The rows of {column.name} have different lengths; in a tensor they must have the same."
            ) from None
    return found[columns[0].name] if one else found


def _dtype(column: Column) -> str:
    return {"str": "str_", "object": "object"}.get(column.dtype, column.dtype)


def _series(values: NDArray[Any], column: Column) -> NDArray[Any]:
    if column.type == "datetime":
        return np.array([np.datetime64("NaT") if v is None else moment(v) for v in values], dtype="datetime64[ns]")
    if column.type == "binary":
        values = np.array([None if value is None else octets(value) for value in values], dtype=object)
    if column.type in REALS:
        return np.array(list(values), dtype=_DTYPES[column.type])
    if column.type not in _DTYPES:
        return values
    if any(value is None for value in values):
        # MLflow's validation rejects the nullable integers and booleans of pandas, but accepts a column of objects.
        whole = column.type in INTEGER_BITS
        return np.array([None if v is None else int(v) if whole else v for v in values], dtype=object)
    return np.array(list(values), dtype=_DTYPES[column.type])
