"""Outputs of pyfunc models: their meaning, and their conversion to JSON values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import LoadError
from app.model.contract import CONTRACT_FILE, Contract
from app.model.output import Form, Output
from app.worker.wire import Block

_REMEDY = "make it return one number, one string or one row of numbers for each input row"


@dataclass(frozen=True)
class Table:
    """An output: the names of its columns, if it has any, and its values, shape (rows, columns)."""

    names: tuple[str, ...]
    values: NDArray[Any]


def table_of(blocks: tuple[Block, ...], count: int) -> Table:
    """Return the output for `count` rows, from the blocks that the worker returned.

    Raises:
        ValueError: The output does not have one row per input row.
    """
    names = tuple(name for block in blocks for name in block.names)
    columns = [_column(block, count) for block in blocks]
    if len({each.dtype.kind for each in columns}) > 1:
        columns = [each.astype(object) for each in columns]
    values = np.concatenate(columns, axis=1) if columns else np.empty((count, 0))
    if not values.shape[1] or len(names) not in (0, values.shape[1]):
        raise ValueError(f"its output for {count} rows has the shape {values.shape}")
    return Table(names, values)


def output_of(table: Table, contract: Contract | None) -> Output:
    """Return the meaning of the output, by the contract and the output for the input example.

    Raises:
        LoadError: They contradict each other, or the meaning is unknown.
    """
    values = table.values
    kinds = {_kind(value) for value in values.ravel().tolist()}
    width = values.shape[1]
    classes = contract.classes if contract else ()
    task = contract.task if contract else ""
    if not kinds <= {"number", "boolean", "string"}:
        raise LoadError(f"its output has values of type {', '.join(sorted(kinds))}", _REMEDY)
    if classes:
        shares = kinds == {"number"} and values.dtype.kind == "f"
        if width == len(classes) and shares:
            return Output(task, "probabilities", classes, width, table.names)
        if width == 1 and not (shares and task == "multiclass"):
            form: Form = "probabilities" if shares else "label"
            return Output(task, form, classes, width)
        raise LoadError(
            f"{CONTRACT_FILE} has {len(classes)} classes, but the output has {width} numbers per row", "correct either"
        )
    if width > 1 and (table.names or kinds != {"number"}):
        names = table.names or tuple(str(place) for place in range(width))
        return Output(task or "regression", "record", (), width, names)
    if kinds == {"number"}:
        return Output(task or "regression", "number" if width == 1 else "numbers", (), width)
    return Output(task or "multiclass", "label", (), width)


def values_of(table: Table, output: Output) -> list[Any]:
    """Return one JSON value per row.

    Raises:
        ValueError: A number is NaN or infinite, a label is not a class, or the form differs from `output`.
    """
    values = table.values
    if values.shape[1] != output.width:
        raise ValueError(f"its output has {values.shape[1]} values per row instead of {output.width}")
    if values.dtype.kind in "fc" and not np.isfinite(values).all():
        raise ValueError("its output contains NaN or infinity, which JSON does not support")
    if output.form == "label":
        return [{"label": label} for label in labels_of(table, output)]
    if output.form == "record":
        return [dict(zip(output.names, row, strict=True)) for row in values.tolist()]
    return output.values(numbers_of(table, output))


def labels_of(table: Table, output: Output) -> list[str]:
    """Return the label of each row of an output of the form label.

    Raises:
        ValueError: A label is not a class of the contract.
    """
    return [_label(value, output.classes) for value in table.values[:, 0].tolist()]


def numbers_of(table: Table, output: Output) -> NDArray[Any]:
    """Return the numbers of an output, shape (rows, width), with probabilities in the order of the classes."""
    if output.form == "probabilities" and output.names and set(output.names) == set(output.classes):
        return table.values[:, [output.names.index(name) for name in output.classes]]
    return table.values


def _column(block: Block, count: int) -> NDArray[Any]:
    """Return the values of a block, shape (rows, columns)."""
    values = block.values
    if isinstance(values, list):
        found = np.empty((len(values), 1), dtype=object)
        found[:, 0] = values
        values = (
            found if not all(isinstance(each, str) for each in values) else np.array(values, dtype=np.str_)[:, None]
        )
    if values.ndim != 2 or len(values) != count:
        raise ValueError(f"its output for {count} rows has the shape {values.shape}")
    return values


def _kind(value: Any) -> str:
    known = {bool: "boolean", int: "number", float: "number", str: "string"}
    return known.get(type(value), type(value).__name__)


def _label(value: Any, classes: tuple[str, ...]) -> str:
    """Return the name of a class, given as a string or as an index into the classes of the contract."""
    if isinstance(value, str):
        if classes and value not in classes:
            raise ValueError("its label is not a class of the contract")
        return value
    if not classes:
        return str(value).lower()
    if value != int(value) or not 0 <= int(value) < len(classes):
        raise ValueError("its label is not the index of a class of the contract")
    return classes[int(value)]
