"""Times until an event, of which some are only known to be later than a bound (censored)."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.model.contract import Task
from training.errors import InputError

TASKS: tuple[Task, ...] = ("survival_risk", "survival_time")
EVENT_OPTION = "--event-column (TRAINING_EVENT_COLUMN)"
UPPER_OPTION = "--upper-bound-column (TRAINING_UPPER_BOUND_COLUMN)"

Times = NDArray[np.float32]


def bounds_of(table: pa.Table, target: str, times: Times, event: str, upper: str) -> tuple[Times, Times]:
    """Return the lower and the upper bound of the time of each row, shape (rows,).

    They are equal for an observed event. The upper bound of a censored row is infinite.

    Args:
        table: Table in which each row has a target.
        target: Column of the times.
        times: Its values. Without one of the following columns, a negative one is censored, as in XGBoost.
        event: Column that contains whether the event was observed, or "".
        upper: Column of the upper bounds, or "". A missing one is infinite.

    Raises:
        InputError: A value cannot be used. The message names the row and the column.
    """
    if upper:
        bounds = _upper(table, target, times, upper)
        return times, bounds
    observed = _events(table, event) if event else times > 0
    lower = times if event else np.abs(times)
    if (bad := ~(lower > 0)).any():
        row = int(bad.argmax())
        wrong = f"Row {row + 1}, column {target}: the time is {times[row]:g}; a time until an event is positive."
        raise InputError(f"{wrong} Correct it, or remove the row.")
    return lower, np.where(observed, lower, np.float32(np.inf))


def label(lower: Times, upper: Times) -> Times:
    """Return the times as the objective survival:cox takes them, shape (rows,): a censored one is negative."""
    return np.where(np.isfinite(upper), lower, -lower)


def _events(table: pa.Table, name: str) -> NDArray[np.bool_]:
    column = table.column(name)
    kind = column.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(
            f"{EVENT_OPTION}: column {name} has the type {kind}, but it must contain 1 or true for an observed event, "
            "and 0 or false for a censored row."
        )
    numbers = pc.cast(column, pa.float64(), safe=False).to_numpy()
    if (bad := (numbers != 0) & (numbers != 1)).any():
        row = int(bad.argmax())
        found = "the value is missing" if np.isnan(numbers[row]) else f"the value is {numbers[row]:g}"
        raise InputError(
            f"{EVENT_OPTION}: row {row + 1}, column {name}: {found}; use 1 or true for an observed event, and 0 or "
            "false for a censored row."
        )
    return np.asarray(numbers == 1)


def _upper(table: pa.Table, target: str, lower: Times, name: str) -> Times:
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
        raise InputError(f"{UPPER_OPTION}: column {name} has the type {column.type}, but bounds must be numbers.")
    numbers = pc.cast(column, pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):
        upper = np.where(np.isnan(numbers), np.inf, numbers).astype(np.float32)
    if (bad := (lower < 0) | (upper < lower) | (upper == 0)).any():
        row = int(bad.argmax())
        raise InputError(
            f"{UPPER_OPTION}: row {row + 1}: the time is between {lower[row]:g} ({target}) and {upper[row]:g} "
            f"({name}); the lower bound must be at least 0, and the upper bound positive and not below it. Correct the "
            "row, or remove it."
        )
    return upper
