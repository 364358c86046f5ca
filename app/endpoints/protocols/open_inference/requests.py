"""Rows of a request, from one tensor with all columns or one tensor per column."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.endpoints.protocols.open_inference.tensors import Tensor, misfit
from app.errors import LISTED_ERRORS, InvalidInputError
from app.model.booster import Matrix
from app.model.signature import Signature


def whole_matrix(found: Sequence[Tensor], signature: Signature) -> Matrix | None:
    """Return the rows of one tensor with all columns in their order, or None if a value may be invalid."""
    first = found[0]
    if len(found) > 1 or not signature.numeric or not isinstance(first.values, np.ndarray):
        return None
    if first.shape[1:] != (len(signature.names),) or first.values.dtype.kind == "b":
        return None
    return signature.from_numbers(first.values.reshape(first.shape).astype(np.float64, copy=False))


def columns_of(found: Sequence[Tensor], signature: Signature) -> list[Tensor]:
    """Return one tensor per column: those of the request, or the columns of its only tensor.

    Raises:
        InvalidInputError: Shapes or datatypes do not fit the model.
    """
    first, width = found[0], len(signature.names)
    if len(found) == 1 and len(first.shape) == 2 and first.shape[1] == width:
        if width == 1 and first.name != signature.names[0]:
            return [Tensor(signature.names[0], first.datatype, first.shape, first.values)]
        if width > 1:
            shape = first.shape[:1]
            pairs = zip(signature.names, first.columns(), strict=True)
            found = [Tensor(name, first.datatype, shape, values) for name, values in pairs]
    for each in found:
        if len(each.shape) == 2 and each.shape[1] != 1:
            several = f"[rows], [rows, 1], or [rows, {width}] if it is the only input and has all columns in order"
            raise InvalidInputError(
                f"Input {each.name[:200]!r} has the shape {list(each.shape)}; it must be {several}."
            )
        if each.shape[0] != first.shape[0]:
            other = f"but {first.name[:200]!r} has {first.shape[0]}"
            raise InvalidInputError(f"Input {each.name[:200]!r} has {each.shape[0]} rows, {other}.")
    datatypes = {each.name: each.datatype for each in found}
    problems = [misfit(each, datatypes[each.name]) for each in signature.columns if each.name in datatypes]
    if errors := [each for each in problems if each]:
        raise InvalidInputError("Datatypes do not fit the model's columns.", errors[:LISTED_ERRORS], len(errors))
    return list(found)


def matrix_of(columns: Sequence[Tensor], signature: Signature, unseen: list[str]) -> Callable[[], Matrix]:
    """Return a callable for the matrix. It uses NumPy if all values are numbers, and otherwise checks every cell.

    Args:
        columns: Tensors of the request.
        signature: Signature of the model.
        unseen: Receives the name of the column for each unknown category that is taken as missing.
    """
    names = [each.name for each in columns]

    def matrix() -> Matrix:
        arrays = {each.name: each.values for each in columns if isinstance(each.values, np.ndarray)}
        if signature.numeric and len(arrays) == len(columns) and len(names) == len(signature.names) == len(set(names)):
            ordered = [arrays[name] for name in signature.names if name in arrays]
            if len(ordered) == len(names):
                narrow = signature.from_numbers(np.column_stack(ordered).astype(np.float64))
                if narrow is not None:
                    return narrow
        return signature.from_split(names, payload_of(columns)()["data"], unseen)

    return matrix


def payload_of(columns: Sequence[Tensor]) -> Callable[[], dict[str, Any]]:
    """Return a callable for the rows as JSON values, in which NaN is null."""

    def payload() -> dict[str, Any]:
        lists = [each.values.tolist() if isinstance(each.values, np.ndarray) else each.values for each in columns]
        cells = [[None if value != value else value for value in values] for values in lists]
        return {"columns": [each.name for each in columns], "data": [list(row) for row in zip(*cells, strict=True)]}

    return payload
