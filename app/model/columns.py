"""Columns of a model's input, and the validation of single values."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from app.model.booster import Category
from app.model.contract import DatePart, UnknownCategory
from app.model.dates import feature_names
from app.model.json_values import binary_problem, datetime_problem, moment

REALS = frozenset({"double", "float"})
INTEGER_BITS = {"long": 64, "integer": 32}
FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT64_MAX = float(np.finfo(np.float64).max)
# MLflow's types whose cells are single JSON values, and those whose cells MLflow itself checks.
SCALARS = REALS | INTEGER_BITS.keys() | {"boolean", "string", "datetime", "binary"}
NESTED = {"array": "a list", "map": "an object", "object": "an object", "any": ""}
# NumPy's names of the types whose values need no check of their own; "" is that of a data frame's column.
WIDE = frozenset({"", "float32", "float64", "int32", "int64"})
UNKNOWN_CATEGORY = "must be one of the model's categories"
LISTED_CATEGORIES = 10  # in an error message; the OpenAPI document lists all


@dataclass(frozen=True)
class Column:
    """One input, in MLflow's terms.

    Args:
        name: Name of the column.
        type: MLflow's name of the type.
        required: Whether the column must be present.
        categories: Accepted values of a categorical column, in the order of the booster's codes.
        largest: Largest real number; XGBoost computes in 32 bits, even if the signature has 64.
        shape: Shape of a cell of a tensor, with -1 for any length; empty for a single value.
        dtype: NumPy's name of a tensor's type; empty for a column of a data frame.
        missing: Whether real numbers and categories may be missing.
        unknown: How to take a category that is not in `categories`: refuse it, or as a missing value.
        parts: Features that are made from a date.
    """

    name: str
    type: str
    required: bool = True
    categories: tuple[Category, ...] = ()
    largest: float = FLOAT32_MAX
    shape: tuple[int, ...] = ()
    dtype: str = ""
    missing: bool = True
    unknown: UnknownCategory = "error"
    parts: tuple[DatePart, ...] = ()

    @property
    def nullable(self) -> bool:
        """Whether null is accepted; for real numbers, categories and parts of dates it is XGBoost's missing value."""
        return self.missing and (not self.required or self.type in REALS or bool(self.categories) or bool(self.parts))

    @property
    def features(self) -> "tuple[Column, ...]":
        """The features that are made from the column: a number for each part of a date, or the column itself."""
        return tuple(Column(name, "double") for name in feature_names(self.name, self.parts)) if self.parts else (self,)

    @property
    def bounds(self) -> tuple[int, int] | None:
        """Smallest and largest integer of an integer column."""
        if self.type not in INTEGER_BITS:
            return None
        if self.dtype:
            return int(np.iinfo(self.dtype).min), int(np.iinfo(self.dtype).max)
        half = 2 ** (INTEGER_BITS[self.type] - 1)
        return -half, half - 1

    def problem(self, value: Any) -> str:
        """Return the problem of a value without repeating the value, or "" if it is valid."""
        return self._nested(value, self.shape) if self.shape else self._single(value)

    def native(self, value: Any) -> Any:
        """Return a valid value as the Python type of the column."""
        if isinstance(value, list):
            return [self.native(each) for each in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value) if self.type in INTEGER_BITS else float(value)
        return moment(value) if self.type == "datetime" else value

    def _single(self, value: Any) -> str:
        if value is None:
            return "" if self.nullable else f"must not be null: the type {self.type} has no missing values"
        if self.categories:
            if not isinstance(value, list | dict) and (type(value), value) in self.codes:
                return ""
            return self._stranger(value) if self.unknown == "missing" else f"{UNKNOWN_CATEGORY}: {self._listed()}"
        if self.type == "boolean":
            return "" if isinstance(value, bool) else f"must be true or false, not {kind(value)}"
        if self.type in NESTED:
            wanted = NESTED[self.type]
            return "" if wanted in ("", kind(value)) else f"must be {wanted}, not {kind(value)}"
        if self.type not in REALS and self.type not in INTEGER_BITS:
            if not isinstance(value, str):
                return f"must be a string, not {kind(value)}"
            return {"datetime": datetime_problem, "binary": binary_problem}.get(self.type, lambda _: "")(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, not {kind(value)}"
        if bounds := self.bounds:
            if value != value or value in (math.inf, -math.inf) or value != int(value):
                return "must be a whole number"
            bits = INTEGER_BITS[self.type]
            wanted = f"be between {bounds[0]} and {bounds[1]}" if self.dtype else f"fit in {bits} bits"
            return "" if bounds[0] <= value <= bounds[1] else f"must {wanted}"
        # A larger number would be infinite as float32. The comparison also works for integers beyond any float.
        bits = 32 if self.largest == FLOAT32_MAX else 64
        return "" if -self.largest <= value <= self.largest else f"must be finite as a {bits}-bit number"

    def _stranger(self, value: Any) -> str:
        """Return the problem of an unknown category that is taken as missing: it must have the type of the others."""
        if self.type == "string":
            return "" if isinstance(value, str) else f"must be a string, not {kind(value)}"
        whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
        return "" if whole else "must be a whole number"

    def _nested(self, value: Any, shape: Sequence[int]) -> str:
        """Return the first problem of a cell of a tensor, which must be nested lists in its shape."""
        if not shape:
            return self._single(value)
        if not isinstance(value, list):
            return f"must be a list with the shape {list(self.shape)}, not {kind(value)}"
        if shape[0] not in (-1, len(value)):
            return f"must have the shape {list(self.shape)}: a list has {len(value)} values instead of {shape[0]}"
        return next((found for each in value if (found := self._nested(each, shape[1:]))), "")

    @cached_property
    def codes(self) -> dict[tuple[Any, Any], float]:
        """Codes of the categories. The key includes the type, because True equals 1 in Python."""
        found: dict[tuple[Any, Any], float] = {(type(None), None): math.nan}
        for number, category in enumerate(self.categories):
            found[type(category), category] = number
            if isinstance(category, int):
                found[float, float(category)] = number
        return found

    def document(self) -> dict[str, Any]:
        """Return the column as JSON."""
        known = {"name": self.name, "type": self.type, "required": self.required}
        return (
            known
            | ({"categories": list(self.categories)} if self.categories else {})
            | ({"unknown_category": self.unknown} if self.categories and self.unknown != "error" else {})
            | ({"parts": list(self.parts)} if self.parts else {})
            | ({"shape": list(self.shape)} if self.shape else {})
            | ({"dtype": self.dtype} if self.dtype else {})
        )

    def _listed(self) -> str:
        more = len(self.categories) - LISTED_CATEGORIES
        listed = ", ".join(json.dumps(each, ensure_ascii=False) for each in self.categories[:LISTED_CATEGORIES])
        return listed + (f" and {more} more" if more > 0 else "")


def column_name(name: Any) -> str | None:
    """Return the name that XGBoost gives to a column of a data frame, or None if it cannot be the name of a column.

    A number becomes its text, and the levels of a pandas MultiIndex are joined by spaces.
    """
    if isinstance(name, list) and name:
        levels = [column_name(level) for level in name]
        return None if None in levels else " ".join(map(str, levels))
    return str(name) if isinstance(name, str | int | float) else None


def kind(value: Any) -> str:
    """Return the name of a JSON value's type."""
    names = {str: "a string", bool: "a boolean", dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "a number")
