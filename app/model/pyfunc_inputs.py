"""Inputs of pyfunc models: validated JSON values, as the blocks that the worker makes a data frame or tensors from."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError
from app.model.columns import INTEGER_BITS, REALS, Column
from app.model.input_columns import UNNAMED
from app.model.json_values import moment
from app.model.parameters import Parameters
from app.model.signature import Cells
from app.worker.wire import Block

Form = Literal["frame", "array", "arrays"]  # a data frame, one tensor, or tensors by name

_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
_TEXT = ("str", "object")
_NULLABLE = REALS | {"string"}  # types of which MLflow accepts a column without values


class Inputs:
    """The input of one model.

    Args:
        columns: Columns of the signature.
        form: What the model gets.
    """

    def __init__(self, columns: Sequence[Column], form: Form) -> None:
        self._columns = tuple(columns)
        self._form = form
        first = columns[0]
        # A matrix has one column per feature here.
        self._matrix = form == "array" and not first.shape and first.name != UNNAMED

    def request(self, rows: Cells, parameters: Parameters) -> tuple[dict[str, Any], tuple[Block, ...]]:
        """Return the header and the blocks of a call.

        Raises:
            InvalidInputError: The rows of a tensor differ in length.
        """
        blocks = self._frame(rows) if self._form == "frame" else self._tensors(rows)
        present = {name for block in blocks for name in block.names}
        return {
            "do": "predict",
            "rows": len(rows),
            "input": self._form,
            "order": [column.name for column in self._columns if column.name in present],
            "parameters": {name: _parameter(value) for name, value in parameters.items()},
        }, blocks

    def _frame(self, rows: Cells) -> tuple[Block, ...]:
        """Return the columns of a data frame.

        A column of numbers or text without any value is kept, because many models need each of their columns. MLflow
        rejects such a column of other types, so it is left out.
        """
        numbers: dict[str, list[int]] = {}
        blocks = []
        for place, column in enumerate(self._columns):
            values = rows[:, place]
            gaps = not column.required or column.type not in REALS
            empty = gaps and any(value is None for value in values)
            optional = not column.required and column.type not in _NULLABLE
            if empty and optional and all(value is None for value in values):
                continue
            # MLflow's validation rejects the nullable integers and booleans of pandas, but accepts a column of objects.
            if column.type in REALS or (column.type in _DTYPES and not empty):
                numbers.setdefault(_DTYPES[column.type], []).append(place)
            else:
                blocks.append(_block(column, values))
        found = [
            Block([self._columns[place].name for place in places], rows[:, places].astype(dtype))
            for dtype, places in numbers.items()
        ]
        return (*found, *blocks)

    def _tensors(self, rows: Cells) -> tuple[Block, ...]:
        if self._matrix:
            names = [column.name for column in self._columns]
            return (_tensor(names, rows.tolist(), self._columns[0].dtype),)
        found = []
        for place, column in enumerate(self._columns):
            try:
                found.append(_tensor([column.name], list(rows[:, place]), column.dtype))
            except ValueError:
                raise InvalidInputError(
                    f"The rows of {column.name} have different lengths; in a tensor they must have the same."
                ) from None
        return tuple(found)


def _block(column: Column, values: NDArray[Any]) -> Block:
    """Return a column that does not consist of numbers, or that has missing ones."""
    if column.type == "datetime":
        moments = [np.datetime64("NaT") if value is None else moment(value) for value in values]
        return Block([column.name], np.array(moments, dtype="datetime64[ns]"))
    if column.type in INTEGER_BITS:
        return Block([column.name], [None if value is None else int(value) for value in values])
    return Block([column.name], values.tolist(), "binary" if column.type == "binary" else "")


def _tensor(names: list[str], values: list[Any], dtype: str) -> Block:
    if dtype in _TEXT:
        np.array(values, dtype=object if dtype == "object" else "str_")  # raises ValueError if the lengths differ
        return Block(names, values, f"tensor:{dtype}")
    return Block(names, np.array(values, dtype=dtype))


def _parameter(value: Any) -> Any:
    if isinstance(value, list):
        return [_parameter(each) for each in value]
    return {"datetime": str(value)} if isinstance(value, np.datetime64) else value
