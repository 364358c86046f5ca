"""Weights of the rows, with which the model is fitted and measured."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.errors import InputError

OPTION = "--weight-column (TRAINING_WEIGHT_COLUMN)"

Weights = NDArray[np.float32]


def weights_of(table: pa.Table, name: str) -> Weights:
    """Return the weight of each row, shape (rows,).

    Raises:
        InputError: The column does not contain numbers, or a weight is not positive.
    """
    column = table.column(name)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise InputError(f"{OPTION}: column {name} has the type {kind}, but weights must be numbers.")
    numbers = pc.cast(column, pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        weights: Weights = numbers.astype(np.float32)
        bad = ~((weights > 0) & np.isfinite(weights))
    if bad.any():
        row = int(bad.argmax())
        found = "the weight is missing" if np.isnan(numbers[row]) else f"the weight is {numbers[row]:g}"
        raise InputError(
            f"{OPTION}: row {row + 1}, column {name}: {found}; weights must be positive 32-bit numbers. Correct it, or "
            "remove the row."
        )
    return weights


def check_queries(weights: Weights, groups: NDArray[np.int64], name: str) -> None:
    """Refuse different weights in a query of a ranking, because XGBoost weighs whole queries.

    Args:
        weights: Weight of each row, shape (rows,).
        groups: Query of each row, shape (rows,), ascending.
        name: Column of the weights.

    Raises:
        InputError: A query has several weights.
    """
    changed = (groups[1:] == groups[:-1]) & (weights[1:] != weights[:-1])
    if changed.any():
        row = int(changed.argmax())
        raise InputError(
            f"{OPTION}: a query has rows with the weights {weights[row]:g} and {weights[row + 1]:g} in column {name}; "
            "give all rows of a query the same weight."
        )


def of_groups(weights: Weights, groups: NDArray[np.int64]) -> Weights:
    """Return the weight of each query, shape (queries,), from rows whose queries are ascending."""
    return weights[np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))]
