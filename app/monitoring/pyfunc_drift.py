"""Drift counts of models of all MLflow flavors, whose signature does not list the categories of a column.

The categories are those of the reference profile, which `python -m training describe` made.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.model.booster import Category, Matrix
from app.model.columns import INTEGER_BITS, REALS, Column
from app.model.contract import Profile, Variable
from app.model.output import Output
from app.model.pyfunc_outputs import Table, labels_of, numbers_of
from app.model.signature import Cells
from app.monitoring.drift import Drift

NUMBERS = REALS | INTEGER_BITS.keys() | {"boolean"}


class PyfuncDrift(Drift):
    """The drift counts of one model. Thread-safe.

    Args:
        profile: Reference profile.
        columns: Columns of the model.
        output: Form of the model's predictions.
        labels: Name and version of the model.
        most_features: Maximum number of features to count.

    Raises:
        LoadError: The profile does not belong to the model.
    """

    def __init__(
        self,
        profile: Profile,
        columns: Sequence[Column],
        output: Output,
        labels: tuple[str, str],
        most_features: int,
    ) -> None:
        known = {each.name: categories_of(each) for each in profile.features}
        columns = [replace(each, categories=known.get(each.name, ())) for each in columns]
        self._form = output
        listed = categories_of(profile.predictions[0]) if profile.predictions else ()
        self._classes = output.classes or listed
        names = tuple(map(str, self._classes))
        numbers = Output(output.task, "numbers", names, len(profile.predictions) or 1)
        super().__init__(profile, columns, numbers, labels, most_features)
        counted = {each.variable.name for each in self.bins.variables if each.role == "feature"}
        self._features = [each if each.name in counted else None for each in columns]
        self._predicted = bool(profile.predictions)

    def count_answer(self, cells: Cells, table: Table) -> None:
        """Count rows, shape (rows, columns), and the answers of the model to them."""
        rows = np.full((len(cells), len(self._features)), np.nan, dtype=np.float32)
        for place, column in enumerate(self._features):
            if column is not None:
                rows[:, place] = numbers_or_codes(cells[:, place], column.categories)
        if self._predicted:
            answers = measured(table, self._form, self._classes)
        else:
            answers = np.zeros((len(cells), 1), dtype=np.float32)
        self.count(rows, answers)


def categories_of(variable: Variable) -> tuple[Category, ...]:
    """Return the categories of a variable, in the order of their codes."""
    return (*variable.categories, *variable.others)


def numbers_or_codes(cells: NDArray[Any], categories: Sequence[Category]) -> NDArray[np.float32]:
    """Return the cells of a column as float32: numbers, or codes of categories. NaN is missing.

    Args:
        cells: Values of the column, shape (rows,).
        categories: Categories of the column; empty for a column of numbers. Others get the code after the last one.
    """
    if categories:
        codes: dict[Any, float] = {category: code for code, category in enumerate(categories)} | {None: np.nan}
        unknown = float(len(categories))
        return np.array([codes.get(cell, unknown) for cell in cells.tolist()], dtype=np.float32)
    with np.errstate(over="ignore"):  # a number beyond float32 is infinite, as in the reference
        return cells.astype(np.float64).astype(np.float32)


def measured(table: Table, output: Output, classes: Sequence[Category]) -> Matrix:
    """Return the monitored values of an output, shape (rows, measures): scores, numbers or codes of classes."""
    if output.form == "label":
        labels = np.array(labels_of(table, output), dtype=object)
        return numbers_or_codes(labels, classes)[:, None]
    numbers = numbers_of(table, output).astype(np.float32)
    if output.form == "probabilities" and output.width > 1:
        return numbers[:, 1:2] if output.task == "binary" else numbers.argmax(axis=1)[:, None].astype(np.float32)
    return numbers
