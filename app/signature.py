"""Read a model's signature, and turn rows of JSON values into the float32 matrix it asks for.

Owns what a caller may send. Nothing is guessed: a number in quotes, a column too many or an infinite value is
refused with its place, because the trees would answer anything.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import LISTED_ERRORS, CellError, InvalidInputError, LoadError

Matrix = NDArray[np.float32]

_REALS = frozenset({"double", "float"})
INTEGER_BITS = {"long": 64, "integer": 32}
_TYPES = _REALS | INTEGER_BITS.keys() | {"boolean"}
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NUMBERS = frozenset({int, float})
_NUMBERS_OR_NULL = _NUMBERS | {type(None)}


@dataclass(frozen=True)
class Column:
    """One input by MLflow's words; `required: false` means that it may be left out."""

    name: str
    type: str
    required: bool

    @property
    def nullable(self) -> bool:
        """Whether null is an answer: for a real number it is XGBoost's missing value."""
        return self.type in _REALS or not self.required

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value, in words that do not repeat it; "" when nothing is."""
        if value is None:
            return "" if self.nullable else f"must not be null: a {self.type} has no missing value"
        if self.type == "boolean":
            return "" if isinstance(value, bool) else f"must be true or false, not {_kind(value)}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, not {_kind(value)}"
        if self.type in INTEGER_BITS:
            bits = INTEGER_BITS[self.type]
            if value != value or value in (math.inf, -math.inf) or value != int(value):
                return "must be a whole number"
            return "" if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else f"must fit in {bits} bits"
        # Above this, float32 is infinite; the comparison also takes integers that no float can hold.
        return "" if -_FLOAT32_MAX <= value <= _FLOAT32_MAX else "must be finite as a 32-bit number"


class Signature:
    """The columns of a model, in the order of its features."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.names = tuple(column.name for column in columns)
        self._in_order = list(self.names)
        self._known = frozenset(self.names)
        self._required = frozenset(column.name for column in columns if column.required)
        self._integers = [i for i, column in enumerate(columns) if column.type in INTEGER_BITS]
        # With one boolean, or an integer that may be left out, the types of the cells no longer say enough.
        self._fast = all(c.type in _REALS or (c.type in INTEGER_BITS and c.required) for c in columns)

    @classmethod
    def from_mlmodel(cls, mlmodel: Mapping[str, Any]) -> "Signature":
        """Read the signature that MLflow wrote.

        Raises:
            LoadError: there is none, or it has inputs this service cannot check.
        """
        remedy = "log the model with a signature of named, numeric columns (mlflow.models.infer_signature)"
        signature = mlmodel.get("signature")
        if not isinstance(signature, dict) or not signature.get("inputs"):
            raise LoadError("MLmodel has no signature", remedy)
        columns = []
        for entry in json.loads(signature["inputs"]):
            name, kind = entry.get("name"), entry.get("type")
            if not name or kind not in _TYPES:
                raise LoadError(f"input {name or '(unnamed)'} is of type {kind}, which cannot be served", remedy)
            columns.append(Column(name, kind, entry.get("required", True)))
        if len({column.name for column in columns}) != len(columns):
            raise LoadError("two inputs have the same name", remedy)
        return cls(columns)

    def document(self) -> list[dict[str, Any]]:
        """The columns as JSON, in MLflow's words."""
        return [asdict(column) for column in self.columns]

    def from_records(self, records: Sequence[Any]) -> Matrix:
        """Return the rows of `[{column: value}]`, shape (rows, columns); NaN stands for missing.

        Raises:
            InvalidInputError: with the first places that do not fit.
        """
        errors = _Errors()
        rows = []
        for number, record in enumerate(records):
            if not isinstance(record, dict):
                errors.add(number, None, f"must be an object with a value per column, not {_kind(record)}")
                continue
            if record.keys() != self._known:
                for name in self.names:
                    if name in self._required and name not in record:
                        errors.add(number, name, "is missing")
                for name in record:
                    if name not in self._known:
                        errors.add(number, name, "is no column of this model")
            rows.append([record.get(name) for name in self.names])
        errors.raise_if_any()
        return self._matrix(rows)

    def from_split(self, columns: Sequence[Any], data: Sequence[Any]) -> Matrix:
        """Return the rows of `{"columns": [..], "data": [[..]]}`, as `from_records` does."""
        width = len(columns)
        if columns == self._in_order and all(type(row) is list and len(row) == width for row in data):
            return self._matrix(data)
        errors = _Errors()
        for name in self.names:
            if name in self._required and name not in columns:
                errors.add(None, name, "is missing")
        seen: set[str] = set()
        for name in columns:
            if not isinstance(name, str):
                errors.add(None, None, f"a column's name must be a string, not {_kind(name)}")
            elif name not in self._known:
                errors.add(None, name, "is no column of this model")
            elif name in seen:
                errors.add(None, name, "is there twice")
            else:
                seen.add(name)
        for number, row in enumerate(data):
            if not isinstance(row, list):
                errors.add(number, None, f"must be a list with a value per column, not {_kind(row)}")
            elif len(row) != width:
                errors.add(number, None, f"has {len(row)} values for {width} columns")
        errors.raise_if_any()
        place = {name: i for i, name in enumerate(columns)}
        order = [place.get(name) for name in self.names]
        return self._matrix([[None if i is None else row[i] for i in order] for row in data])

    def _matrix(self, rows: Sequence[list[Any]]) -> Matrix:
        """Convert rows of the right length: at once when the types of all cells allow it, else one by one."""
        types = set(map(type, chain.from_iterable(rows)))
        if self._fast and types <= (_NUMBERS if self._integers else _NUMBERS_OR_NULL):
            try:
                wide = np.array(rows, dtype=np.float64)
            except OverflowError:  # an integer above any float; the slow way names it
                wide = np.full((1, len(self.names)), np.inf)
            infinite = np.abs(wide) > _FLOAT32_MAX  # a null is NaN here, which is not above anything
            if not infinite.any() and self._whole(wide):
                return wide.astype(np.float32)
        errors = _Errors()
        for number, row in enumerate(rows):
            for column, value in zip(self.columns, row, strict=True):
                if problem := column.problem(value):
                    errors.add(number, column.name, problem)
        errors.raise_if_any()
        return np.array(rows, dtype=np.float64).astype(np.float32)

    def _whole(self, wide: NDArray[np.float64]) -> bool:
        """Whether the integer columns hold integers of 32 bits; larger ones are left to the slow way."""
        if not self._integers:
            return True
        whole = wide[:, self._integers]
        return bool((np.abs(whole) < 2**31).all() and (whole == np.trunc(whole)).all())


class _Errors:
    """Collect the first errors and count all."""

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
            listed = "" if self.total <= LISTED_ERRORS else f", the first {LISTED_ERRORS} are listed"
            raise InvalidInputError(f"The input has {count}{listed}.", self.first, self.total)


def _kind(value: Any) -> str:
    """Name a JSON value's type."""
    names = {str: "a string", bool: "a boolean", dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "a number")
