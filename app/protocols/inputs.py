"""Turn the tensors of a request into the rows of a model: one tensor of all columns, or one for each."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.booster import Matrix
from app.errors import LISTED_ERRORS, InvalidInputError
from app.protocols.tensors import Tensor, misfit
from app.signature import Signature


def columns_of(found: Sequence[Tensor], signature: Signature) -> list[Tensor]:
    """Return a tensor for each column: what came, or the columns of the only tensor that came."""
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
            several = f"[rows], [rows, 1] or, of the only input, [rows, {width}] for all columns in their order"
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


def matrix_of(columns: Sequence[Tensor], signature: Signature) -> Callable[[], Matrix]:
    """Return what makes the matrix: by numpy alone where all is numbers, else cell by cell, to name what is wrong."""
    names = [each.name for each in columns]

    def matrix() -> Matrix:
        arrays = {each.name: each.values for each in columns if isinstance(each.values, np.ndarray)}
        if signature.numeric and len(arrays) == len(columns) and len(names) == len(signature.names) == len(set(names)):
            ordered = [arrays[name] for name in signature.names if name in arrays]
            if len(ordered) == len(names):
                narrow = signature.from_numbers(np.column_stack(ordered).astype(np.float64))
                if narrow is not None:
                    return narrow
        return signature.from_split(names, payload_of(columns)()["data"])

    return matrix


def payload_of(columns: Sequence[Tensor]) -> Callable[[], dict[str, Any]]:
    """Return what makes rows of JSON values; NaN is null there."""

    def payload() -> dict[str, Any]:
        lists = [each.values.tolist() if isinstance(each.values, np.ndarray) else each.values for each in columns]
        cells = [[None if value != value else value for value in values] for values in lists]
        return {"columns": [each.name for each in columns], "data": [list(row) for row in zip(*cells, strict=True)]}

    return payload
