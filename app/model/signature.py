"""Input signature of a model, which validates rows of JSON values and converts them to a float32 matrix.

Nothing is guessed: a number in quotes, an unknown column or an infinite value is rejected with its place, because the
trees would predict something for any input.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import LISTED_ERRORS, CellError, InvalidInputError
from app.model.columns import FLOAT32_MAX, INTEGER_BITS, REALS, WIDE, Column, column_name, kind
from app.model.dates import parts_of, seconds
from app.model.parameters import NO_PARAMETERS, Parameter, Parameters

# Input of a model, shape (rows, columns): float32 for XGBoost, Python objects for pyfunc models.
Cells = NDArray[Any]

_BLOCK_CELLS = 32_768
_NUMBERS = frozenset({int, float})
_NUMBERS_OR_NULL = _NUMBERS | {type(None)}


class Signature:
    """The columns of a model, in the order of its features, and its parameters.

    Each part of a date is a feature of its own; every other column is one feature.
    """

    parameters: tuple[Parameter, ...] = ()  # XGBoost models have none
    defaults: Parameters = NO_PARAMETERS

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.names = tuple(column.name for column in columns)
        self.features = tuple(feature for column in columns for feature in column.features)
        self.feature_names = tuple(feature.name for feature in self.features)
        self._in_order = list(self.names)
        self._known = frozenset(self.names)
        self._required = frozenset(column.name for column in columns if column.required)
        self._codes = {i: column.codes for i, column in enumerate(columns) if column.categories}
        self._dates = {i: column.parts for i, column in enumerate(columns) if column.parts}
        self._first = np.cumsum([0, *(len(column.features) for column in columns)])  # feature of each column
        numbers = [(i, column) for i, column in enumerate(columns) if not column.categories and not column.parts]
        self._integers = [i for i, column in numbers if column.type in INTEGER_BITS]
        # A boolean, a narrow tensor or an optional integer requires a check of every cell.
        self._fast = all(
            c.type in REALS or (c.type in INTEGER_BITS and c.required) for _, c in numbers
        ) and WIDE.issuperset(c.dtype for _, c in numbers)
        self.numeric = self._fast and not self._codes and not self._dates  # every value is a number or null

    def document(self) -> list[dict[str, Any]]:
        """Return the columns as JSON, in MLflow's terms."""
        return [column.document() for column in self.columns]

    def from_records(self, records: Sequence[Any], unseen: list[str] | None = None) -> Cells:
        """Return the rows of `[{column: value}]`, shape (rows, features). Missing values are NaN.

        Args:
            records: Rows.
            unseen: Receives the name of the column for each unknown category that is taken as missing.

        Raises:
            InvalidInputError: A value is invalid; the error lists the first problems.
        """
        errors = _Errors()
        rows = []
        for number, record in enumerate(records):
            if not isinstance(record, dict):
                errors.add(number, None, f"must be an object with a value per column, not {kind(record)}")
                continue
            if record.keys() != self._known:
                for name in self.names:
                    if name in self._required and name not in record:
                        errors.add(number, name, "is missing")
                for name in record:
                    if name not in self._known:
                        errors.add(number, name, "is not a column of this model")
            rows.append([record.get(name) for name in self.names])
        errors.raise_if_any()
        return self._matrix(rows, unseen)

    def from_split(self, columns: Sequence[Any], data: Sequence[Any], unseen: list[str] | None = None) -> Cells:
        """Return the rows of `{"columns": [..], "data": [[..]]}`, as `from_records` does."""
        width = len(columns)
        if columns == self._in_order and all(type(row) is list and len(row) == width for row in data):
            return self._matrix(data, unseen)
        errors = _Errors()
        columns = [column_name(name) for name in columns]
        given = set(columns)
        for name in self.names:
            if name in self._required and name not in given:
                errors.add(None, name, "is missing")
        seen: set[str] = set()
        for name in columns:
            if name is None:
                errors.add(None, None, "a column's name must be a string, a number or a list of these")
            elif name not in self._known:
                errors.add(None, name, "is not a column of this model")
            elif name in seen:
                errors.add(None, name, "appears twice")
            else:
                seen.add(name)
        for number, row in enumerate(data):
            if not isinstance(row, list):
                errors.add(number, None, f"must be a list with a value per column, not {kind(row)}")
            elif len(row) != width:
                errors.add(number, None, f"has {len(row)} values for {width} columns")
        errors.raise_if_any()
        place = {name: i for i, name in enumerate(columns)}
        order = [place.get(name) for name in self.names]
        return self._matrix([[None if i is None else row[i] for i in order] for row in data], unseen)

    def from_numbers(self, wide: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """Return rows of numbers as float32, shape (rows, features), or None if one may not fit its column.

        Args:
            wide: Numbers, codes, and dates in seconds since 1970, in the order of the columns; NaN is null, where that
                is allowed.
        """
        infinite = np.abs(wide) > FLOAT32_MAX  # false for NaN, which is null
        return None if infinite.any() or not self._whole(wide) else self._narrow(wide)

    def _matrix(self, rows: Sequence[list[Any]], unseen: list[str] | None) -> Cells:
        """Convert rows of the right length, by blocks: a call that converts all would hold the interpreter."""
        height = max(1, _BLOCK_CELLS // len(self.names))
        blocks = [rows[start : start + height] for start in range(0, len(rows), height)] or [rows]
        strangers: list[str] = [] if unseen is None else unseen
        coded = self._codes or self._dates
        encoded = [self._encoded(block, strangers) if coded else block for block in blocks]
        found: list[Cells] = []
        for cells in encoded:
            if (narrow := self._typed(cells)) is None:
                break
            found.append(narrow)
        if len(found) < len(blocks):
            self._check(rows)
            found = [self._exact(cells, block) for cells, block in zip(encoded, blocks, strict=True)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _typed(self, cells: Sequence[list[Any]]) -> NDArray[np.float32] | None:
        """Return cells whose types need no check of each, or None."""
        types = set(map(type, chain.from_iterable(cells)))
        if not cells or not self._fast or not types <= (_NUMBERS if self._integers else _NUMBERS_OR_NULL):
            return None
        try:
            return self.from_numbers(np.array(cells, dtype=np.float64))
        except OverflowError:  # an integer beyond any float, which `_check` reports
            return None

    def _exact(self, cells: Sequence[list[Any]], rows: Sequence[list[Any]]) -> NDArray[np.float32]:
        """Return checked cells, and the rows from which they were encoded."""
        found = self._narrow(np.array(cells, dtype=np.float64))
        for place in self._integers:  # directly, because a large integer would be rounded twice through float64
            known = [number for number, row in enumerate(rows) if row[place] is not None]
            whole = np.array([int(rows[number][place]) for number in known], dtype=np.int64)
            found[known, self._first[place]] = whole.astype(np.float32)
        return found

    def _narrow(self, wide: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the features of the columns as float32."""
        if not self._dates:
            return wide.astype(np.float32)
        found = np.empty((len(wide), len(self.features)), dtype=np.float32)
        others = [i for i in range(len(self.columns)) if i not in self._dates]
        found[:, self._first[others]] = wide[:, others]
        for i, parts in self._dates.items():
            found[:, self._first[i] : self._first[i + 1]] = parts_of(wide[:, i], parts)
        return found

    def _check(self, rows: Sequence[list[Any]]) -> None:
        """Check each cell of rows of the right length.

        Raises:
            InvalidInputError: A cell is invalid.
        """
        errors = _Errors()
        for number, row in enumerate(rows):
            for column, value in zip(self.columns, row, strict=True):
                if problem := column.problem(value):
                    errors.add(number, column.name, problem)
        errors.raise_if_any()

    def _encoded(self, rows: Sequence[list[Any]], unseen: list[str]) -> Sequence[list[Any]]:
        """Return the rows with the booster's codes instead of categories, and seconds since 1970 instead of dates.

        The list is empty if a category or a date is refused.
        """
        encoded = [row.copy() for row in rows]
        try:
            for i, codes in self._codes.items():
                if self.columns[i].unknown == "missing":
                    _without_strangers(self.columns[i], i, encoded, unseen)
                for row in encoded:
                    row[i] = codes[type(row[i]), row[i]]
            for i in self._dates:
                for row in encoded:
                    row[i] = None if row[i] is None else seconds(row[i])
        except (KeyError, TypeError, ValueError):  # TypeError: a list or an object
            return []
        return encoded

    def _whole(self, wide: NDArray[np.float64]) -> bool:
        """Whether all values of integer columns are 32-bit integers; `_check` handles larger ones."""
        if not self._integers:
            return True
        whole = wide[:, self._integers]
        return bool((np.abs(whole) < 2**31).all() and (whole == np.trunc(whole)).all())


def _without_strangers(column: Column, place: int, rows: Sequence[list[Any]], unseen: list[str]) -> None:
    """Replace unknown categories, which the column takes as missing values, by null."""
    for row in rows:
        if (type(row[place]), row[place]) not in column.codes and not column.problem(row[place]):
            row[place] = None
            unseen.append(column.name)


class _Errors:
    """The first errors of an input, and the number of all errors."""

    def __init__(self) -> None:
        self.first: list[CellError] = []
        self.total = 0

    def add(self, row: int | None, column: str | None, problem: str) -> None:
        self.total += 1
        if len(self.first) < LISTED_ERRORS:
            self.first.append(CellError(row, None if column is None else column[:200], problem))

    def raise_if_any(self) -> None:
        if self.total:
            count = "1 problem" if self.total == 1 else f"{self.total} problems"
            listed = "" if self.total <= LISTED_ERRORS else f"; the first {LISTED_ERRORS} are listed"
            raise InvalidInputError(f"The input has {count}{listed}.", self.first, self.total)
