"""Inputs and outputs of the model: from the columns of a request, and to the columns of an answer."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np

from .wire import Block

Values = Any  # of a model, in whatever type it takes or returns


class OutputError(ValueError):
    """The model's output is not a table with one row per input row."""


def given(blocks: Iterable[Block], kind: str, order: list[str], rows: int) -> Values:
    """Return the input of the model.

    Args:
        blocks: Columns of the request.
        kind: frame for a data frame, array for one tensor, or arrays for tensors by name.
        order: Names of the columns in the order of the signature.
        rows: Number of rows.
    """
    parts = [(block.names, _native(block)) for block in blocks]
    if kind == "array":
        return parts[0][1]
    if kind == "arrays":
        return {names[0]: values for names, values in parts}
    import pandas as pd

    if len(parts) == 1 and parts[0][0] == order:
        return pd.DataFrame(parts[0][1].reshape(rows, len(order)), columns=order, index=range(rows))
    columns = {}
    for names, values in parts:
        for place, name in enumerate(names):
            columns[name] = pd.Series(values[:, place] if len(names) > 1 or values.ndim > 1 else values)
    return pd.DataFrame({name: columns[name] for name in order}, index=range(rows))


def returned(answer: Values, rows: int) -> tuple[Block, ...]:
    """Return the columns of the model's output: one block of numbers if possible, otherwise one block per column.

    Raises:
        OutputError: The output is not a table with one row per input row, or has values that JSON lacks.
    """
    names, columns = _columns(answer)
    for column in columns:
        if column.ndim > 2 or len(column) != rows or (len(columns) > 1 and column.ndim > 1 and column.shape[1] != 1):
            raise OutputError(f"its output for {rows} rows has the shape {column.shape}")
    if len(columns) == 1:
        values = columns[0] if columns[0].ndim == 2 else columns[0][:, None]
        if values.shape[1] > 1 and not names and values.dtype.kind not in "biuf":
            columns = [values[:, place] for place in range(values.shape[1])]
    if not columns or columns[0].size == 0:
        raise OutputError(f"its output for {rows} rows has no columns")
    kinds = {column.dtype for column in columns}
    if len(kinds) == 1 and columns[0].dtype.kind in "biuf":
        flat = columns[0] if len(columns) == 1 else np.stack([column.reshape(rows) for column in columns], axis=1)
        return (Block(names, _plain(flat.reshape(rows, -1))),)
    return tuple(
        Block(names[place : place + 1], _plain(column.reshape(rows)) if column.dtype.kind in "biuf" else _json(column))
        for place, column in enumerate(columns)
    )


def _native(block: Block) -> np.ndarray[Any, Any]:
    """Return the values of a block as the array that the model gets."""
    values = block.values
    if not isinstance(values, list):
        return values
    if block.form == "binary":
        values = [None if value is None else base64.b64decode(value) for value in values]
    if block.form.startswith("tensor:"):
        return np.array(values, dtype=block.form.partition(":")[2])
    found = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        found[place] = value
    return found


def _columns(answer: Values) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    if isinstance(answer, dict):
        return [str(name) for name in answer], [np.asarray(each) for each in answer.values()]
    if hasattr(answer, "columns") and hasattr(answer, "iloc"):
        columns = [answer.iloc[:, place].to_numpy() for place in range(len(answer.columns))]
        return [str(name) for name in answer.columns], columns
    array = np.asarray(answer)
    return [], [array if array.ndim else array[None]]


def _plain(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return numbers in a type that every platform has."""
    return values.astype(np.float64) if values.dtype.kind == "f" and values.itemsize not in (4, 8) else values


def _json(column: np.ndarray[Any, Any]) -> list[Any]:
    values = [each.item() if isinstance(each, np.generic) else each for each in column.reshape(-1).tolist()]
    strange = {type(value).__name__ for value in values} - {"str", "bool", "int", "float"}
    if strange:
        named = ", ".join(sorted(strange))
        raise OutputError(f"its output has values of type {named}")
    return values
