"""Say what the answers of MLflow's models mean, whatever they are made of, and turn them into JSON values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.contract import CONTRACT_FILE, Contract
from app.errors import LoadError
from app.output import Form, Output

_REMEDY = "let it answer with one number, string or row of numbers for each row of its input"


@dataclass(frozen=True)
class Table:
    """An answer: the names of its columns, where it has some, and its values, shape (rows, columns)."""

    names: tuple[str, ...]
    values: NDArray[Any]


def table_of(answer: Any, count: int) -> Table:
    """Return an answer to so many rows, which MLflow lets be a data frame, a series, arrays, a list.

    Raises:
        ValueError: it is none of these, or not of a row for each row.
    """
    names: tuple[str, ...] = ()
    if isinstance(answer, dict):
        names, values = tuple(map(str, answer)), _side_by_side([np.asarray(each) for each in answer.values()])
    elif hasattr(answer, "columns"):
        names = tuple(map(str, answer.columns))
        values = _side_by_side([answer.iloc[:, place].to_numpy() for place in range(len(names))])
    else:
        values = np.asarray(answer)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != count or not values.shape[1]:
        raise ValueError(f"it answers {count} rows with values of the shape {values.shape}")
    return Table(names, values)


def output_of(table: Table, contract: Contract | None) -> Output:
    """Return what the answers mean, by the contract and by the one to the input example.

    Raises:
        LoadError: they contradict each other, or nothing says what they mean.
    """
    values = table.values
    kinds = {_kind(value) for value in values.ravel().tolist()}
    width = values.shape[1]
    classes = contract.classes if contract else ()
    task = contract.task if contract else ""
    if not kinds <= {"number", "boolean", "string"}:
        raise LoadError(f"it answers with values of type {', '.join(sorted(kinds))}", _REMEDY)
    if classes:
        shares = kinds == {"number"} and values.dtype.kind == "f"
        if width == len(classes) and shares:
            return Output(task, "probabilities", classes, width, table.names)
        if width == 1 and not (shares and task == "multiclass"):
            form: Form = "probabilities" if shares else "label"
            return Output(task, form, classes, width)
        raise LoadError(
            f"{CONTRACT_FILE} names {len(classes)} classes, but it answers with {width} numbers", "correct either"
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
        ValueError: a number is NaN or infinite, a label is none of the classes, or the answer is of another form.
    """
    values = table.values
    if values.shape[1] != output.width:
        raise ValueError(f"it answers with {values.shape[1]} values a row instead of {output.width}")
    if values.dtype.kind in "fc" and not np.isfinite(values).all():
        raise ValueError("its output is not finite, which JSON cannot say")
    if output.form == "label":
        return [{"label": _label(value, output.classes)} for value in values[:, 0].tolist()]
    if output.form == "record":
        return [dict(zip(output.names, row, strict=True)) for row in values.tolist()]
    if output.form == "probabilities" and output.names and set(output.names) == set(output.classes):
        values = values[:, [output.names.index(name) for name in output.classes]]
    return output.values(values)


def _side_by_side(columns: list[NDArray[Any]]) -> NDArray[Any]:
    flat = [each[:, 0] if each.ndim == 2 and each.shape[1] == 1 else each for each in columns]
    if len({each.dtype.kind for each in flat}) > 1:
        flat = [each.astype(object) for each in flat]
    return np.stack(flat, axis=1) if flat else np.empty((0, 0))


def _kind(value: Any) -> str:
    known = {bool: "boolean", int: "number", float: "number", str: "string"}
    return known.get(type(value), type(value).__name__)


def _label(value: Any, classes: tuple[str, ...]) -> str:
    """Return the name of a class: a string is one, a number its place among those of the contract."""
    if isinstance(value, str):
        if classes and value not in classes:
            raise ValueError("its label is none of the contract's classes")
        return value
    if not classes:
        return str(value).lower()
    if value != int(value) or not 0 <= int(value) < len(classes):
        raise ValueError("its label is the place of none of the contract's classes")
    return classes[int(value)]
